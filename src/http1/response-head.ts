import { STATUS_CODES } from 'node:http'
import { type HeaderList, headerLines } from './headers.ts'

/** A response's head (RFC 9112 §4, §5); `lines` are headers that are written down already. Throws as `headerLines`. */
export function responseHead(status: number, headers: HeaderList, lines: string): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${headerLines(headers)}${lines}\r\n`
}
