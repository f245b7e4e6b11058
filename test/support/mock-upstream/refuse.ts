import type { Api } from './api.ts'
import { errorBody } from './errors.ts'
import { answerHeaders, cut, type Exchange } from './exchange.ts'
import type { RefusalTrouble } from './script.ts'

/** Answers with an error, with nothing, or with what is no answer. */
export function refuse(exchange: Exchange, trouble: RefusalTrouble, apiShape: Api['errorShape']): void {
  const { request, response } = exchange
  const headers = answerHeaders(exchange)
  const streams = request.body['stream'] === true

  switch (trouble.kind) {
    case 'error': {
      const { status, message = `The mock upstream answers ${status}.`, shape = apiShape } = trouble
      const body = trouble.body ?? errorBody(shape, status, message)
      response.writeHead(status, { ...headers, ...contentType(body), ...trouble.headers })
      response.end(typeof body === 'string' ? body : JSON.stringify(body))
      return
    }
    case 'redirect':
      response.writeHead(trouble.status ?? 307, { ...headers, location: trouble.location }).end()
      return
    case 'hang-up':
      cut(exchange)
      return
    case 'garbage-http':
      request.progress.end('cut')
      response.socket?.end('SSH-2.0-OpenSSH_9.6\r\n\0\x01\x02 this is no HTTP\r\n\r\n')
      return
    case 'hang-before-headers':
      return
    case 'hang-after-headers':
      response.writeHead(200, { ...headers, 'content-type': streams ? 'text/event-stream' : 'application/json' })
      response.flushHeaders()
      return
  }
}

function contentType(body: string | object) {
  return { 'content-type': typeof body === 'string' ? 'text/html' : 'application/json' }
}
