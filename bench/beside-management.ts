import { z } from 'zod'
import { inTurn } from './in-turn.ts'
import type { Measured, Rig } from './measure.ts'
import { callSized, startSized } from './store-size.ts'
import { type Manage, modelsWithLimits, plenty } from './tollgate.ts'

interface Activity {
  of: string
  title: string
  /** Calls the management API, one call after the other, until it is over. */
  act(manage: Manage, isOver: () => boolean): Promise<void>
}

/** What a lab does while its customers call. */
export const activities: readonly Activity[] = [
  { of: 'nothing', title: 'does nothing', act: async () => {} },
  { of: 'listing', title: 'lists 1,000 groups, again and again', act: listGroups },
  { of: 'bounding', title: 'lowers and raises a limit above all 100,000, again and again', act: boundRoot },
]

const callsPerSecond = 1_000

/** How long customers wait for a small JSON answer meanwhile, at a rate that leaves the process time for both. */
export async function measureBesideManagement(rig: Rig): Promise<Measured[]> {
  rig.say('starting Tollgate with a store of 100,000 groups for the management API')
  await using server = await startSized({ title: '100,000', customers: 100_000, callers: 64 }, rig)
  const measured: Measured[] = []
  for (let round = 1; round <= rig.pace.rounds; round++) {
    rig.say(`round ${round}: beside the management API`)
    for (const { of, act } of inTurn(activities, round)) {
      let isOver = false
      const acting = act(server.manage, () => isOver)
      try {
        const calls = { keys: server.keys, seconds: rig.pace.seconds, rate: callsPerSecond }
        const { requestUs } = await callSized(server, calls, rig)
        measured.push({ what: 'requestP99Us', of, who: 'tollgate', value: requestUs.p99 })
      } finally {
        isOver = true
        await acting
      }
    }
  }
  return measured
}

async function listGroups(manage: Manage, isOver: () => boolean): Promise<void> {
  while (!isOver()) await manage('GET', '/v1/gateway/groups?limit=1000')
}

async function boundRoot(manage: Manage, isOver: () => boolean): Promise<void> {
  const [root] = Groups.parse(await manage('GET', '/v1/gateway/groups?limit=1')).items
  const bound = (requestsPerMinute: number) =>
    manage('PATCH', `/v1/gateway/groups/${root.id}`, { models: modelsWithLimits(['json'], { requestsPerMinute }) })
  while (!isOver()) {
    await bound(plenty + 1)
    await bound(plenty)
  }
}

/** The oldest group is the root. */
const Groups = z.object({ items: z.tuple([z.object({ id: z.string() })]) })
