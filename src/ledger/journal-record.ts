import { closeSync, openSync, readSync } from 'node:fs'
import { crc32 } from 'node:zlib'

/** A byte of a segment. It is not counted in records: damage changes how many lines there are, but moves no byte. */
export interface SegmentPlace {
  /** The segment's number. */
  segment: number
  offset: number
}

/** What a line of a segment says; `end` is the offset at which the line ends. */
export type JournalRecord =
  | { kind: 'event'; text: string; end: number }
  /** The ledger has everything that stands before `place`. */
  | { kind: 'removal'; place: SegmentPlace; end: number }
  /** Something has changed the line since it was written. */
  | { kind: 'damaged'; end: number }
  /** The last so many bytes have no line end, or are not there. Their writer was killed, and promised nobody more. */
  | { kind: 'torn'; bytes: number }

/** The line of an event in the form of `eventText`: JSON, which has no line end in it. */
export function eventRecord(text: string): string {
  return record(text)
}

/** The line which says that the ledger has everything that stands before `place`. */
export function removalRecord({ segment, offset }: SegmentPlace): string {
  return record(`removed ${segment} ${offset}`)
}

/**
 * A checksum, a space and the text, on a line. An empty line follows, so that a damaged byte, were it a line end, costs
 * no more than one record.
 */
function record(text: string): string {
  return `${crc32(text).toString(16).padStart(checksumDigits, '0')} ${text}\n\n`
}

const checksumDigits = 8
const textStart = checksumDigits + 1
const lineEnd = 0x0a
const removal = /^removed (\d+) (\d+)$/

/** So much of a file is in memory at a time, or one record that is larger. */
const pieceBytes = 64 * 1024

/** The records of the file `path` from offset `from`, where a line begins, to `to`. */
export function* readRecords(path: string, { from, to }: { from: number; to: number }): Generator<JournalRecord> {
  const file = openSync(path, 'r')
  try {
    let bytesMax = pieceBytes
    for (let offset = from; offset < to; ) {
      const piece = readPiece(file, { offset, bytes: Math.min(bytesMax, to - offset) })
      const lineBytes = piece.lastIndexOf(lineEnd) + 1
      yield* recordsIn(piece.subarray(0, lineBytes), offset)
      offset += lineBytes
      const isLast = piece.length < bytesMax
      if (isLast && offset < to) yield { kind: 'torn', bytes: to - offset }
      if (isLast) return
      bytesMax = lineBytes === 0 ? bytesMax * 2 : pieceBytes
    }
  } finally {
    closeSync(file)
  }
}

function readPiece(file: number, { offset, bytes }: { offset: number; bytes: number }): Buffer {
  const piece = Buffer.allocUnsafe(bytes)
  return piece.subarray(0, readSync(file, piece, 0, bytes, offset))
}

/** Bytes that damage has made no UTF-8 become other characters, which the checksum does not fit; line ends stay. */
function recordsIn(piece: Buffer, offset: number): JournalRecord[] {
  const records: JournalRecord[] = []
  let end = 0
  for (const line of piece.toString().split('\n')) {
    end = piece.indexOf(lineEnd, end) + 1
    if (line !== '') records.push(recordOf(line, offset + end))
  }
  return records
}

function recordOf(line: string, end: number): JournalRecord {
  const text = line.slice(textStart)
  if (Number.parseInt(line.slice(0, checksumDigits), 16) !== crc32(text)) return { kind: 'damaged', end }
  if (text.startsWith('[')) return { kind: 'event', text, end }
  const [, segment, offset] = removal.exec(text) ?? []
  if (segment === undefined || offset === undefined) return { kind: 'damaged', end }
  return { kind: 'removal', place: { segment: Number(segment), offset: Number(offset) }, end }
}
