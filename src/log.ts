import { type DestinationStream, destination, type Logger, pino } from 'pino'

export type Log = Logger
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/**
 * JSON lines on stderr. Callers log ids, prefixes and figures, never a key, a secret or a prompt; the
 * redaction below is the second fence, for a header object that slips through.
 */
export function openLog({ level }: { level: LogLevel }, stream: DestinationStream = destination(2)): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: ['*.authorization', '*["x-api-key"]', '*.api_key', '*.secret'],
    },
    stream,
  )
}
