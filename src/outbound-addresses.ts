import { BlockList, isIP } from 'node:net'

/**
 * Addresses that the gateway never calls, whoever asks: link-local ones, and those at which clouds hand out
 * credentials (contract §6). Judged when a URL is written and again when connecting, after the name is resolved.
 */
export function isForbiddenAddress(ip: string): boolean {
  return forbidden.check(ip, isIP(ip) === 6 ? 'ipv6' : 'ipv4')
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
  // The list itself sees through ::ffff:a.b.c.d; RFC 4291 (compatible), 6052 (NAT64) and 3056 (6to4) embed too.
  forbidden.addSubnet(address, bits, 'ipv4')
  forbidden.addSubnet(`::${address}`, 96 + bits, 'ipv6')
  forbidden.addSubnet(`64:ff9b::${address}`, 96 + bits, 'ipv6')
  forbidden.addSubnet(`2002:${hexPair(address)}::`, 16 + bits, 'ipv6')
}

function hexPair(ipv4: string): string {
  const hex = ipv4.split('.').map((part) => Number(part).toString(16).padStart(2, '0'))
  return `${hex.slice(0, 2).join('')}:${hex.slice(2).join('')}`
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')
