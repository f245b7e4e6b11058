import { parentPort } from 'node:worker_threads'
import { countTokens, setMergeCacheSize } from 'gpt-tokenizer/encoding/o200k_base'
import { pieces } from './token-pieces.ts'

/* The thread of `countTokens`: takes texts, answers their counts, in order. */

// The cache holds pieces of what customers' models wrote; small, it serves as well.
setMergeCacheSize(10_000)

const specialTokensAsText = { disallowedSpecial: new Set<string>() }

parentPort?.on('message', (text: string) => {
  let tokens = 0
  for (const piece of pieces(text)) tokens += countTokens(piece, specialTokensAsText)
  parentPort?.postMessage(tokens)
})
