/**
 * What the demo model has in place of a neural network: sentences about the words of the prompt, tokens that are
 * words, and embeddings that count them. Everything is a pure function of the text: same prompt, same answer.
 */

/** A few sentences about what was asked. */
export function writeAnswer(prompt: string): string {
  const subject = subjectOf(prompt)
  const random = hash(prompt)
  const opening = openings.find(({ asked }) => asked.test(prompt))?.sentence ?? fallbackOpening
  const first = random % middles.length
  const second = (first + 1 + ((random >>> 8) % (middles.length - 1))) % middles.length
  const sentences = [opening, middles[first], middles[second], closing].map((write) =>
    capitalised(write?.(subject) ?? ''),
  )
  return sentences.join(' ')
}

/** Cuts a text into tokens, words with the space before them and single signs; joined, they are the text again. */
export function tokenize(text: string): string[] {
  return text.match(/\s*(?:[\p{L}\p{N}]+(?:['’][\p{L}]+)?|[^\s\p{L}\p{N}])|\s+$/gu) ?? []
}

/** A vector of length 1; texts that share words point in similar directions. */
export function embed(text: string, dimensions: number): number[] {
  const vector = new Array<number>(dimensions).fill(0)
  // A half is never cancelled by whole words, so that the vector has a direction whatever the text.
  vector[0] = 0.5
  for (const word of wordsOf(text.toLowerCase())) {
    const random = hash(word)
    const slot = random % dimensions
    vector[slot] = (vector[slot] ?? 0) + (random & 0x10000 ? 1 : -1)
  }
  const length = Math.hypot(...vector)
  return vector.map((value) => value / length)
}

type Sentence = (subject: string) => string

const openings: { asked: RegExp; sentence: Sentence }[] = [
  {
    asked: /^\W*(hello|hi|hey|good (morning|evening))\b/i,
    sentence: () => 'hello, and thank you for stopping at the gate.',
  },
  { asked: /\bhow\b/i, sentence: (subject) => `with ${subject}, begin with the smallest step that you can check.` },
  { asked: /\bwhy\b/i, sentence: (subject) => `behind ${subject} there is seldom one reason alone.` },
  { asked: /\bwhen\b/i, sentence: (subject) => `for ${subject}, the right moment is usually earlier than it seems.` },
  {
    asked: /\b(what|who|which|explain)\b/i,
    sentence: (subject) => `${subject}: an example says more than a definition.`,
  },
  {
    asked: /\b(write|tell|story|poem)\b/i,
    sentence: (subject) => `once there was a traveller who knew all about ${subject}.`,
  },
]

const fallbackOpening: Sentence = (subject) => `here are a few words about ${subject}.`

const middles: Sentence[] = [
  (subject) => `whoever works with ${subject} soon learns to measure first and to argue later.`,
  (subject) => `much of what is said about ${subject} is true on Mondays only.`,
  (subject) => `the old keepers of the road would have counted ${subject} twice and written it down once.`,
  (subject) => `look at ${subject} from the side of the one who pays, and most questions answer themselves.`,
  (subject) => `a good test of ${subject} is whether you can explain it while the barrier is going up.`,
]

const closing: Sentence = () => 'I am a demo model and only join sentences, so please do not rely on this.'

/** The first words of the prompt that carry meaning, quoted, as a list in a sentence. */
function subjectOf(prompt: string): string {
  const telling = wordsOf(prompt).filter(
    (word) => word.length > 2 && word.length < 30 && !fillers.has(word.toLowerCase()),
  )
  const [first, second] = [...new Set(telling)].map((word) => `“${word}”`)
  if (first === undefined) return 'the road ahead'
  return second === undefined ? first : `${first} and ${second}`
}

const fillers = new Set(
  wordsOf(`about and are but can could did does explain for from has have hello hey how into its just like me more not
    please say should some tell than that the their them then there these they this was were what when where which who
    why will with would write you your`),
)

function wordsOf(text: string): string[] {
  return text.match(/[\p{L}\p{N}]+/gu) ?? []
}

function capitalised(sentence: string): string {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1)
}

/** FNV-1a, 32 bits: spreads similar texts well apart. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (const character of text) value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 0x01000193)
  return value >>> 0
}
