import { setFlagsFromString } from 'node:v8'

/**
 * Tells V8 what it guesses wrongly of a process that holds a request's memory for as long as the request, and much of
 * it in buffers. To be called before the first request.
 *
 * - The memory of buffers counts as objects do: garbage is collected when both together have grown in proportion. By
 *   default each 64 MB of buffers, however short their life, have all objects of the process marked, which with prompts
 *   of 200 kB came to five times a second and a quarter of the CPU time, in pauses of 10 ms.
 * - New objects are young wherever they are made. By default a line of code whose objects outlived a few small
 *   collections makes old ones from then on. Where V8 decides so for lines that each request passes, as it does in most
 *   processes, all objects are marked every 7 s at 8,000 requests a second, else once in 100 s.
 */
export function tuneGarbageCollection(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit')
  setFlagsFromString('--no-allocation-site-pretenuring')
}
