import { STATUS_CODES } from 'node:http'

/** RFC 9112 §4. */
export function statusLine(status: number): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`
}
