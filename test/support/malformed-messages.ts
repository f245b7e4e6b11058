/** HTTP/1.1 messages that are none, or could be read in more than one way, by what is wrong; `head` is their beginning. */
export function malformedMessages(head: string): Record<string, string> {
  const chunks = `${head}transfer-encoding: chunked\r\n\r\n`
  return {
    'two lengths': `${head}content-length: 2\r\ncontent-length: 3\r\n\r\nok`,
    'a length and chunks': `${head}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    'a length with a sign': `${head}content-length: +2\r\n\r\nok`,
    'an unknown transfer encoding': `${head}transfer-encoding: gzip, chunked\r\n\r\n`,
    'a header that goes on in the next line': `${head}x-a: 1\r\n x-b: 2\r\n\r\n`,
    'a space before the colon': `${head}content-length : 2\r\n\r\nok`,
    'a line feed alone': `${head}x-a: 1\ncontent-length: 2\r\n\r\nok`,
    'a NUL in a header': `${head}x-a: \0\r\n\r\n`,
    'a chunk without a size': `${chunks}\r\nok\r\n`,
    'a size that is no number': `${chunks}0x2\r\nok\r\n`,
    'a size beyond all bodies': `${chunks}fffffffffff\r\n`,
    'a chunk longer than its size': `${chunks}1\r\nok\r\n0\r\n\r\n`,
    'a chunk line ended by a line feed alone': `${chunks}2\nok\r\n0\r\n\r\n`,
    'a trailer that begins with a line feed': `${chunks}0\r\n\n\r\n`,
    'an endless extension': `${chunks}2;${'a'.repeat(5_000)}\r\nok\r\n`,
    'an endless trailer': `${chunks}0\r\n${'a: b\r\n'.repeat(20_000)}\r\n`,
    'an endless head': `${head}${'x-a: 1\r\n'.repeat(10_000)}\r\n`,
  }
}
