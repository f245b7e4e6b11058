import { createPublicKey, verify } from 'node:crypto'
import { z } from 'zod'
import { keyHash, shannonEntropy } from '../access/api-key.ts'
import type { Clock } from '../clock.ts'
import { ApiError, invalid } from '../errors.ts'
import type { ChangeLog } from '../storage/change-log.ts'
import type { Transaction } from '../storage/database.ts'
import { takeLock } from '../storage/locks.ts'
import type { WorkspaceRow } from '../storage/tables.ts'
import { insertFederatedKey } from './federated-key-row.ts'
import { findGroup } from './group-tree.ts'
import { defineRoute, type Route } from './route.ts'

const RegisterKeyRequest = z
  .strictObject({
    key: z.string().describe('32 to 128 printable characters without spaces, of at least 3 bits of entropy each.'),
    name: z.string().max(255).nullable().default(null).describe('For people.'),
  })
  .meta({ id: 'RegisterAPIKeyRequestV1' })

const RegisterKeyAnswer = z.object({ ok: z.boolean() }).meta({ id: 'RegisterAPIKeyResponseV1' })

/** Without one the request counts as signed wrongly: what else is wrong with it is said first. */
const Signature = z.preprocess(
  (given) => given ?? '',
  z
    .string()
    .describe("Ed25519 signature of the body's bytes, in base64, by the key whose public half the workspace has."),
)

const prefixLength = 16
const entropyMin = 3

/** A key that the caller has made itself; the whole body is signed with Ed25519 (contract §8). */
export function registerKeyRoutes(parts: { changeLog: ChangeLog; clock: Clock }): Route[] {
  return [
    defineRoute({
      method: 'POST',
      path: '/v1/gateway/groups/{group_id}/api_keys/register',
      permission: 'federated-keys:manage',
      summary: "Register a key of one's own, in a signed request",
      tag: 'Federated keys',
      headers: { 'x-baseten-signature': Signature },
      body: RegisterKeyRequest,
      response: RegisterKeyAnswer,
      async handler({ workspace, params, body: { key, name }, received, transaction }) {
        const group = await findGroup(workspace.id, params.group_id, transaction.queries)
        refuseUnsigned(workspace, { bytes: received.bytes, signature: received.headers['x-baseten-signature'] })
        refuseUnfit(key)
        const registered = { prefix: key.slice(0, prefixLength), hash: keyHash(key) }
        await refuseTaken(registered, transaction)
        await insertFederatedKey(
          { workspaceId: workspace.id, groupId: group.id, key: registered, name },
          { ...parts, transaction },
        )
        return { ok: true }
      },
      audit: (_answer, { params, body }) => ({
        event_type: 'FEDERATED_KEY_REGISTERED',
        prefix: body.key.slice(0, prefixLength),
        group_id: params.group_id,
      }),
    }),
  ]
}

function refuseUnsigned(
  { register_public_key }: WorkspaceRow,
  { bytes, signature }: { bytes: Buffer; signature: string },
): void {
  if (register_public_key === null) {
    throw new ApiError('VALIDATION_ERROR', { message: 'Must configure a public key before registering API keys' })
  }
  const isSigned = verify(null, bytes, ed25519Key(register_public_key), Buffer.from(signature, 'base64'))
  if (!isSigned) throw new ApiError('VALIDATION_ERROR', { message: 'Signature verification failed' })
}

function ed25519Key(base64: string) {
  const x = Buffer.from(base64, 'base64').toString('base64url')
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
}

function refuseUnfit(key: string): void {
  if (key.length < 32 || key.length > 128) throw invalid('key', `Must be 32 to 128 characters; it has ${key.length}.`)
  if (!/^[\x21-\x7e]+$/.test(key)) throw invalid('key', 'Must be printable ASCII characters without spaces.')
  const entropy = shannonEntropy(key)
  if (entropy < entropyMin) {
    throw invalid('key', `Must have at least ${entropyMin} bits of entropy a character; it has ${entropy.toFixed(2)}.`)
  }
}

/** Also a revoked key's: its prefix stands in the record. */
async function refuseTaken(
  { prefix, hash }: { prefix: string; hash: string },
  transaction: Transaction,
): Promise<void> {
  // Keys of both kinds are unique together, which no constraint sees to.
  await takeLock('names', transaction)
  for (const table of ['federated_keys', 'workspace_keys'] as const) {
    const taken = await transaction.queries
      .selectFrom(table)
      .select('id')
      .where((eb) => eb.or([eb('prefix', '=', prefix), eb('hash', '=', hash)]))
      .executeTakeFirst()
    if (taken !== undefined) throw invalid('key', 'This key, or its first 16 characters, is already taken.')
  }
}
