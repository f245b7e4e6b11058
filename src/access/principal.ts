/**
 * The key that a request presents: `Authorization: Api-Key K` or `Bearer K`, the scheme in any case, or null
 * where there is none of that form (contract §3).
 */
export function presentedKey(authorization: string | undefined): string | null {
  if (authorization === undefined) return null
  const match = /^(?:api-key|bearer) +(\S+) *$/i.exec(authorization)
  return match?.[1] ?? null
}
