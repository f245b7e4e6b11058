import { Channel } from '../../src/workers/channel.ts'

/** A worker that opens, cannot stop, and does not end by itself. */
new Channel(process, {
  open: async () => {},
  stop: async () => {
    throw new Error('The worker cannot stop.')
  },
})
