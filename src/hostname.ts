import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'

/** The hostname as clients send it in `Host`: lower case, international names in Punycode. Null for what is none. */
export function canonicalHostname(given: string): string | null {
  // What is no part of a name would be dropped silently.
  const hostname = /[\s/:?#@\\%[\]]/.test(given) ? '' : domainToASCII(given)
  const isName = /^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$/.test(hostname)
  return isName && isIP(hostname) === 0 ? hostname : null
}
