import { type Receiver, startReceiver, status } from '../delivery/receiver.ts'

/** The lab's billing system: takes most of what it is sent, and remembers each event once. */
export interface Billing extends AsyncDisposable {
  url: string
  /** The events it took, by idempotency key. */
  taken: Set<string>
  /** How many came again after it had taken them. */
  repeats: number
  /** Answers nothing but 500 while this is set. */
  isAway: boolean
}

/** Answers 500 to one delivery in twenty, and hangs up on one in a hundred that it has taken. */
export async function startBilling(): Promise<Billing> {
  const receiver: Receiver = await startReceiver()
  const billing: Billing = {
    url: receiver.url,
    taken: new Set(),
    repeats: 0,
    isAway: false,
    [Symbol.asyncDispose]: () => receiver[Symbol.asyncDispose](),
  }
  receiver.answer = (post, response) => {
    receiver.posts.length = 0
    if (billing.isAway || Math.random() < 0.05) return status(500)(post, response)
    for (const { idempotencyKey } of post.events) {
      if (billing.taken.has(idempotencyKey)) billing.repeats += 1
      billing.taken.add(idempotencyKey)
    }
    if (Math.random() < 0.01) response.destroy()
    else status(200)(post, response)
  }
  return billing
}
