import { copyFileSync, existsSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Segment } from './journal-segment.ts'

/** `journal.00000001.log`, beside the lock `journal.db`; `stem` is the path of all without number and ending. */
export function segmentFile(stem: string, number: number): { number: number; path: string } {
  return { number, path: `${stem}.${String(number).padStart(8, '0')}.log` }
}

/** The segments that are there, oldest first, their events not counted; and a number above theirs and their copies'. */
export function presentSegments(stem: string): { segments: Segment[]; nextNumber: number } {
  const folder = dirname(stem)
  const pattern = new RegExp(`^${RegExp.escape(basename(stem))}\\.(\\d{8,})\\.log(\\.damaged)?$`)
  const names = readdirSync(folder).filter((name) => pattern.test(name))
  const numberOf = (name: string) => Number(pattern.exec(name)?.[1])
  const segments = names
    .filter((name) => !name.endsWith(damagedEnding))
    .map((name) => join(folder, name))
    .map((path) => ({ number: numberOf(basename(path)), path, bytes: statSync(path).size, events: 0 }))
  return {
    segments: segments.sort((one, other) => one.number - other.number),
    nextNumber: Math.max(0, ...names.map(numberOf)) + 1,
  }
}

const damagedEnding = '.damaged'

/** Copies the segment aside, unless that has been done, and returns the path of the copy. */
export function copyOfDamaged({ path }: Segment): string {
  const copy = `${path}${damagedEnding}`
  if (!existsSync(copy)) copyFileSync(path, copy)
  return copy
}
