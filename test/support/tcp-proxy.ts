import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** Stands between a client and a server of 127.0.0.1, and can take the one away from the other. */
export interface TcpProxy extends AsyncDisposable {
  port: number
  /** Lets through what comes: at the start, and after one of the others. */
  pass(): void
  /** Ends all connections, and ends new ones at once: the server has died. */
  cut(): void
  /** Takes connections and lets nothing through: the server hangs, or the network swallows packets. */
  hang(): void
  /** Lets through what is asked, and swallows the answers. */
  loseAnswers(): void
}

export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  let state: 'pass' | 'cut' | 'hang' | 'lose answers' = 'pass'
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
  }
  const end = () => {
    for (const socket of sockets) socket.destroy()
  }
  const server = createServer((client) => {
    keep(client)
    if (state === 'cut') return void client.destroy()
    const target = connect(targetPort, '127.0.0.1')
    keep(target)
    const forward = (from: Socket, to: Socket) => {
      from.on('data', (bytes) => {
        if (state === 'pass' || (state === 'lose answers' && to === target)) to.write(bytes)
      })
      from.once('close', () => to.destroy())
    }
    forward(client, target)
    forward(target, client)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    pass() {
      // What was swallowed is missing from the connections of before.
      if (state !== 'cut') end()
      state = 'pass'
    },
    cut() {
      state = 'cut'
      end()
    },
    hang() {
      state = 'hang'
    },
    loseAnswers() {
      state = 'lose answers'
    },
    async [Symbol.asyncDispose]() {
      end()
      server.close()
      await once(server, 'close')
    },
  }
}
