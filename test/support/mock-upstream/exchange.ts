import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Clock } from '../../../src/clock.ts'
import type { RecordedRequest } from './recorded-request.ts'
import type { Script } from './script.ts'

/** One request, the script it is answered by, and the connection that the answer goes to. */
export interface Exchange {
  request: RecordedRequest
  script: Script
  response: ServerResponse
  clock: Clock
}

/** What the answer's head says in any case; like a real server it names its software and its own request id. */
export function answerHeaders({ request, script }: Exchange): OutgoingHttpHeaders {
  const id = `req_mock${String(request.index).padStart(16, '0')}`
  return { server: 'uvicorn', 'x-request-id': id, 'request-id': id, ...script.headers }
}

export function compressed({ request, script }: Exchange): boolean {
  return script.compression === 'gzip' && String(request.headers['accept-encoding']).includes('gzip')
}

/** Breaks the connection; bytes already taken by it still arrive. */
export function cut({ request, response }: Exchange): void {
  request.progress.end('cut')
  response.socket?.destroy()
}
