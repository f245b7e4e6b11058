import { z } from 'zod'
import { isForbiddenHost } from '../outbound-addresses.ts'

/** Where an upstream is: what stands before `/chat/completions`, at a host that may be called (contract §6). */
export const UpstreamUrl = z
  .string()
  .max(2048)
  .check(({ value, issues }) => {
    const message = faultOf(value)
    if (message !== null) issues.push({ code: 'custom', input: value, message })
  })
  .meta({ format: 'uri', examples: ['http://127.0.0.1:8080/v1'] })

function faultOf(given: string): string | null {
  const url = URL.parse(given)
  if (url === null) return 'Must be an absolute URL.'
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return 'Must be an http or https URL.'
  if (url.username !== '' || url.password !== '') return 'Must not hold credentials; give a secret_id.'
  if (given.includes('?') || given.includes('#')) return 'Must not have a query or a fragment.'
  if (/\/chat\/completions\/?$/.test(url.pathname)) return 'Must end before /chat/completions.'
  if (isForbiddenHost(url.hostname)) return 'Link-local and cloud-metadata addresses cannot be called.'
  return null
}
