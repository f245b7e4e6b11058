import { z } from 'zod'
import { isForbiddenHost, isLoopbackHost } from '../outbound-addresses.ts'

/** Where a receiver is: https, or http on this machine, at a host that may be called (contract §14). */
export const WebhookUrl = z
  .string()
  .max(2048)
  .check(({ value, issues }) => {
    const message = faultOf(value)
    if (message !== null) issues.push({ code: 'custom', input: value, message })
  })
  .meta({ format: 'uri', examples: ['https://billing.example.com/tollgate'] })

function faultOf(given: string): string | null {
  const url = URL.parse(given)
  if (url === null) return 'Must be an absolute URL.'
  if (url.username !== '' || url.password !== '') return 'Must not hold credentials; verify the signature instead.'
  if (given.includes('#')) return 'Must not have a fragment.'
  if (isForbiddenHost(url.hostname)) return 'Link-local and cloud-metadata addresses cannot be called.'
  if (url.protocol === 'https:') return null
  const isLocal = url.protocol === 'http:' && isLoopbackHost(url.hostname)
  return isLocal ? null : 'Must be an https URL; plain http is for loopback addresses only.'
}
