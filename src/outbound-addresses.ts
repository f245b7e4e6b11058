import { BlockList, isIP } from 'node:net'

/**
 * Addresses that the gateway never calls, whoever asks: link-local ones, and those at which clouds hand out
 * credentials (contract §6). Judged when a URL is written and again when connecting, after the name is resolved.
 */
export function isForbiddenAddress(ip: string): boolean {
  if (isIP(ip) !== 6) return forbidden.check(ip, 'ipv4')
  return forbidden.check(ip, 'ipv6') || translatedLocally(ip).some((ipv4) => forbidden.check(ipv4, 'ipv4'))
}

/** The same for the host of a URL, as `URL.hostname` writes it: an address, or a name under which metadata is served. */
export function isForbiddenHost(hostname: string): boolean {
  const host = hostname.toLowerCase().replace(/^\[|\]$|\.$/g, '')
  return isIP(host) === 0 ? metadataNames.has(host) : isForbiddenAddress(host)
}

/** Whether what is sent to `ip` stays on this machine. */
export function isLoopbackAddress(ip: string): boolean {
  return loopback.check(ip, isIP(ip) === 6 ? 'ipv6' : 'ipv4')
}

/** The same for the host of a URL: an address, or a name that stands for this machine (RFC 6761 §6.3). */
export function isLoopbackHost(hostname: string): boolean {
  const host = hostname.toLowerCase().replace(/^\[|\]$|\.$/g, '')
  return isIP(host) === 0 ? /^(.+\.)?localhost$/.test(host) : isLoopbackAddress(host)
}

const metadataNames = new Set([
  'instance-data',
  'instance-data.ec2.internal',
  'metadata',
  'metadata.azure.internal',
  'metadata.goog',
  'metadata.google.internal',
])

const ipv4Networks: readonly [address: string, bits: number][] = [
  ['169.254.0.0', 16],
  // Metadata of Alibaba, Azure and Oracle, outside of the link-local range.
  ['100.100.100.200', 32],
  ['168.63.129.16', 32],
  ['192.0.0.192', 32],
]

const ipv6Networks: readonly [address: string, bits: number][] = [
  ['fe80::', 10],
  // Metadata of AWS, Google and Scaleway, in the unique local range.
  ['fd00:ec2::', 32],
  ['fd20:ce::', 32],
  ['fd00:42::', 32],
]

const forbidden = new BlockList()
for (const [address, bits] of ipv6Networks) forbidden.addSubnet(address, bits, 'ipv6')
for (const [address, bits] of ipv4Networks) {
  // The list itself sees through ::ffff:a.b.c.d; RFC 4291 (compatible), 2765 (translated), 6052 (NAT64) and 3056 (6to4)
  // embed too.
  forbidden.addSubnet(address, bits, 'ipv4')
  forbidden.addSubnet(`::${address}`, 96 + bits, 'ipv6')
  forbidden.addSubnet(`::ffff:0:${address}`, 96 + bits, 'ipv6')
  forbidden.addSubnet(`64:ff9b::${address}`, 96 + bits, 'ipv6')
  forbidden.addSubnet(`2002:${hexPair(address)}::`, 16 + bits, 'ipv6')
}

function hexPair(ipv4: string): string {
  const hex = ipv4.split('.').map((part) => Number(part).toString(16).padStart(2, '0'))
  return `${hex.slice(0, 2).join('')}:${hex.slice(2).join('')}`
}

/** Where a network may translate to IPv4 by a prefix of its own, and of any length (RFC 8215). */
const localTranslation = new BlockList()
localTranslation.addSubnet('64:ff9b:1::', 48, 'ipv6')

/** The bytes that then hold the IPv4 address, for each length that a prefix in that range can have (RFC 6052 §2.2). */
const translatedBytes = [
  [6, 7, 9, 10],
  [7, 9, 10, 11],
  [9, 10, 11, 12],
  [12, 13, 14, 15],
] as const

/** The IPv4 addresses to which a network may translate `ipv6`. */
function translatedLocally(ipv6: string): string[] {
  if (!localTranslation.check(ipv6, 'ipv6')) return []
  const bytes = bytesOf(ipv6)
  return translatedBytes.map((places) => places.map((place) => bytes[place]).join('.'))
}

function bytesOf(ipv6: string): number[] {
  // A URL writes an address in one way: groups of hex digits, one run of zeros left out, no zone.
  const { hostname } = new URL(`http://[${ipv6.replace(/%.*$/, '')}]`)
  const [head = [], tail = []] = hostname
    .slice(1, -1)
    .split('::')
    .map((groups) => groups.split(':').filter((group) => group !== ''))
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => '0')
  return [...head, ...zeros, ...tail]
    .map((group) => Number.parseInt(group, 16))
    .flatMap((pair) => [pair >> 8, pair & 0xff])
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')
