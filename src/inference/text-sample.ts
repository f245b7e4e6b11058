/** A text, or what stands for it where it is long. */
export interface TextSample {
  sample: string
  sampleBytes: number
  textBytes: number
}

/** Of a text longer than `sampleBytesMax` its beginning, middle and end, which together have about so many bytes. */
export function textSample(text: string, { sampleBytesMax = 64 * 1024 } = {}): TextSample {
  const textBytes = Buffer.byteLength(text)
  if (textBytes <= sampleBytesMax) return { sample: text, sampleBytes: textBytes, textBytes }
  const length = Math.floor((text.length * sampleBytesMax) / textBytes / partCount)
  const parts = Array.from({ length: partCount }, (_, index) => {
    const start = Math.floor(((text.length - length) * index) / (partCount - 1))
    return text.slice(start, start + length)
  })
  const sample = parts.join('\n')
  return { sample, sampleBytes: Buffer.byteLength(sample), textBytes }
}

const partCount = 3
