/** What a command's exit code says. */
export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 2,
  'not-allowed': 3,
  'not-found': 4,
  invalid: 5,
  server: 6,
} as const
export type FailureKind = Exclude<keyof typeof exitCodes, 'ok'>

/** Ends a command; `message` tells the person at the terminal what to change. */
export class CommandFailure extends Error {
  readonly kind: FailureKind

  constructor(kind: FailureKind, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CommandFailure'
    this.kind = kind
  }
}
