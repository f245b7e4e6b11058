import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { freePort } from '../test/support/free-port.ts'
import { type CaseName, cases } from './cases.ts'
import { collectGarbage, type Running, start } from './processes.ts'
import { startTollgate } from './tollgate.ts'

/** A gateway under load, and how it is called. */
export interface Gateway extends Running {
  name: GatewayName
  port: number
  call(name: CaseName): GatewayCall
  /** Resolves once the memory that it holds is memory that it uses, as far as it can be asked for that. */
  collectGarbage(): Promise<void>
}

export const gatewayNames = ['nginx', 'portkey', 'tollgate'] as const
export type GatewayName = (typeof gatewayNames)[number]

/** What a request of a case is sent to, the headers of each caller, and the answer that it must get. */
export interface GatewayCall {
  path: string
  headers: readonly Record<string, string>[]
  status: number
}

export interface GatewayOptions {
  upstreamPort: number
  /** For its files: need not exist yet. */
  folder: string
}

export const startGateway = {
  nginx: startNginx,
  portkey: startPortkey,
  tollgate: startTollgate,
} satisfies Record<GatewayName, (options: GatewayOptions) => Promise<Gateway>>

/** A plain reverse proxy: no less can be done for a request. One worker, as the others have one thread that serves. */
async function startNginx({ upstreamPort, folder }: GatewayOptions): Promise<Gateway> {
  const port = await freePort()
  mkdirSync(folder, { recursive: true })
  const settings = join(folder, 'nginx.conf')
  writeFileSync(settings, nginxSettings({ port, upstreamPort, folder }))
  const running = await start({ program: 'nginx', arguments: ['-c', settings, '-e', `${folder}/error.log`], port })
  return {
    ...running,
    name: 'nginx',
    port,
    call: (name) => ({
      path: `/${cases[name].upstream}/v1/chat/completions`,
      headers: [{ authorization: 'Bearer none' }],
      status: 200,
    }),
    collectGarbage: async () => {},
  }
}

function nginxSettings({ port, upstreamPort, folder }: GatewayOptions & { port: number }): string {
  return `
    daemon off;
    worker_processes 1;
    pid ${folder}/nginx.pid;
    events { worker_connections 8192; }
    http {
      access_log off;
      tcp_nodelay on;
      keepalive_requests 100000000;
      client_body_temp_path ${folder}/body;
      proxy_temp_path ${folder}/proxy;
      fastcgi_temp_path ${folder}/fastcgi;
      uwsgi_temp_path ${folder}/uwsgi;
      scgi_temp_path ${folder}/scgi;
      client_max_body_size 64m;
      client_body_buffer_size 1m;
      upstream model { server 127.0.0.1:${upstreamPort}; keepalive 1024; keepalive_requests 100000000; }
      server {
        listen 127.0.0.1:${port} backlog=4096;
        location / {
          proxy_pass http://model;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_buffering off;
        }
      }
    }`
}

/** Portkey's gateway as npm has it, but for `@hono/node-server`, without which every stream answers 500. */
async function startPortkey({ upstreamPort }: GatewayOptions): Promise<Gateway> {
  const [port, inspectPort] = [await freePort(), await freePort()]
  const running = await start({
    program: process.execPath,
    arguments: [
      `--inspect-port=${inspectPort}`,
      resolve(import.meta.dirname, 'node_modules/@portkey-ai/gateway/build/start-server.js'),
      `--port=${port}`,
      '--headless',
    ],
    environment: { NODE_ENV: 'production' },
    port,
  })
  return {
    ...running,
    name: 'portkey',
    port,
    call: (name) => ({
      path: '/v1/chat/completions',
      headers: [
        {
          authorization: 'Bearer none',
          'x-portkey-provider': 'openai',
          'x-portkey-custom-host': `http://127.0.0.1:${upstreamPort}/${cases[name].upstream}/v1`,
        },
      ],
      status: 200,
    }),
    collectGarbage: () => collectGarbage(running, inspectPort),
  }
}
