import { setTimeout as delay } from 'node:timers/promises'
import { manage, usageToday } from '../support/record-under-load.ts'
import { type Customer, mintKey } from './customers.ts'
import type { RestartedServer } from './restarted-server.ts'

const pauseMs = 300

/** What a lab does all day: renames a customer, gives another a new key, looks at usage and at the last events. */
export class Management implements AsyncDisposable {
  readonly #server: RestartedServer
  readonly #customers: readonly Customer[]
  readonly #acting: Promise<void>
  #isOver = false

  constructor(server: RestartedServer, customers: readonly Customer[]) {
    this.#server = server
    this.#customers = customers
    this.#acting = this.#act()
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#acting
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  async #act(): Promise<void> {
    const duties = [rename, changeKey, lookAtUsage, lookAtEvents]
    for (let turn = 0; !this.#isOver; turn++) {
      const customer = this.#customers[Math.floor(turn / duties.length) % this.#customers.length]
      const duty = duties[turn % duties.length]
      // A server that is being ended answers none of them; the lab goes on.
      if (customer !== undefined) await duty?.(this.#server, customer).catch(() => {})
      await delay(pauseMs)
    }
  }
}

async function rename(server: RestartedServer, { groupId }: Customer): Promise<void> {
  const metadata = { name: new Date().toISOString() }
  await manage(server, 'PATCH', `/v1/gateway/groups/${groupId}`, { metadata })
}

async function changeKey(server: RestartedServer, customer: Customer): Promise<void> {
  const { groupId, keyPrefix, formerKeyPrefix } = customer
  Object.assign(customer, await mintKey(server, groupId), { formerKeyPrefix: keyPrefix })
  // The key that has just been replaced may still be on its way to the server: its turn is the next time.
  if (formerKeyPrefix === null) return
  await manage(server, 'DELETE', `/v1/gateway/groups/${groupId}/api_keys/${formerKeyPrefix}`)
}

async function lookAtUsage(server: RestartedServer, { groupId }: Customer): Promise<void> {
  await usageToday(server, groupId)
}

async function lookAtEvents(server: RestartedServer): Promise<void> {
  const aMinuteAgo = new Date(Date.now() - 60_000).toISOString()
  await manage(server, 'GET', `/v1/gateway/events?start_time=${aMinuteAgo}&limit=500`)
}
