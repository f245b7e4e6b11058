import { parentPort, workerData } from 'node:worker_threads'
import { keptMasterKey } from '../../src/generated-secrets.ts'

/** A thread that comes to a folder without a key at the same moment as the others, once for each folder. */
const { folders, arrivals, threads }: { folders: string[]; arrivals: Int32Array; threads: number } = workerData
for (const [index, folder] of folders.entries()) {
  Atomics.add(arrivals, index, 1)
  while (Atomics.load(arrivals, index) < threads);
  parentPort?.postMessage(keptMasterKey(folder).toString('base64'))
}
