import type { FastifyInstance } from 'fastify'
import { type ApiDocument, withPlainNames } from './openapi.ts'

export interface PagesParts {
  ready: () => boolean
  databaseReachable: () => boolean
  takesEvents: () => Promise<boolean>
}

/** What needs no key: health, the OpenAPI document, and a front page. */
export function mountPages(server: FastifyInstance, { ready, databaseReachable, takesEvents }: PagesParts): void {
  server.get('/health/live', { schema: { hide: true } }, async () => ({ status: 'live' }))
  server.get('/health/ready', { schema: { hide: true } }, async (_request, reply) => {
    const journal = (await takesEvents()) ? 'writable' : 'not writable'
    const isReady = ready() && journal === 'writable'
    // A node whose database is away serves inference all the same, and must not be taken out for it.
    const database = databaseReachable() ? 'reachable' : 'away'
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'not ready', database, journal })
  })
  let document: ApiDocument | null = null
  server.get('/v1/spec', { schema: { hide: true } }, async () => {
    document ??= withPlainNames(server.swagger())
    return document
  })
  server.get('/', { schema: { hide: true } }, async (_request, reply) =>
    reply.type('text/html; charset=utf-8').send(frontPage),
  )
}

const frontPage = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Tollgate</title>
    <style>
      body { font: 16px/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; color-scheme: light dark; }
    </style>
  </head>
  <body>
    <h1>Tollgate</h1>
    <p>This is the management listener. Customers call the inference listener, on its own address.</p>
    <ul>
      <li><a href="/docs/">API docs</a></li>
      <li><a href="/v1/spec">OpenAPI document</a></li>
      <li><a href="/health/ready">Health</a></li>
    </ul>
  </body>
</html>
`
