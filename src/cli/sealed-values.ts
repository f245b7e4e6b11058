import { signingSecretPurpose } from '../access/signing-secret.ts'
import { answerPurpose } from '../management/idempotency.ts'
import type { Queries } from '../storage/database.ts'
import { masterKeyProof } from '../storage/master-key-proof.ts'
import { type SecretBox, secretPurpose } from '../storage/secret-box.ts'

/** A value that is stored under the master key. */
export interface Sealed {
  table: 'secrets' | 'webhooks' | 'idempotent_answers' | 'master_key_proofs'
  column: 'sealed_value' | 'sealed_secret' | 'sealed_previous_secret' | 'sealed_answer' | 'sealed_proof'
  id: string
  purpose: string
  value: string
}

/** Whether the stored values are under the key of `box`; null where there are none. */
export async function areUnder(box: SecretBox, queries: Queries): Promise<boolean | null> {
  const [first] = await allSealed(queries)
  if (first === undefined) return null
  try {
    box.open(first.value, first.purpose)
    return true
  } catch {
    return false
  }
}

/** All of them, in every table. */
export async function allSealed(queries: Queries): Promise<Sealed[]> {
  const secrets = await queries.selectFrom('secrets').selectAll().execute()
  const webhooks = await queries.selectFrom('webhooks').selectAll().execute()
  const answers = await queries.selectFrom('idempotent_answers').selectAll().execute()
  const proofs = await queries.selectFrom('master_key_proofs').selectAll().execute()
  return [
    ...secrets.map((row): Sealed => {
      return {
        table: 'secrets',
        column: 'sealed_value',
        id: row.id,
        purpose: secretPurpose(row),
        value: row.sealed_value,
      }
    }),
    ...webhooks.flatMap(({ id, sealed_secret, sealed_previous_secret }): Sealed[] => {
      const shared = { table: 'webhooks' as const, id, purpose: signingSecretPurpose(id) }
      const previous: Sealed[] =
        sealed_previous_secret === null
          ? []
          : [{ ...shared, column: 'sealed_previous_secret', value: sealed_previous_secret }]
      return [{ ...shared, column: 'sealed_secret', value: sealed_secret }, ...previous]
    }),
    ...answers.map(({ id, sealed_answer }): Sealed => {
      const purpose = answerPurpose(id)
      return { table: 'idempotent_answers', column: 'sealed_answer', id, purpose, value: sealed_answer }
    }),
    ...proofs.map(({ id, sealed_proof }): Sealed => {
      return { table: 'master_key_proofs', column: 'sealed_proof', id, purpose: masterKeyProof, value: sealed_proof }
    }),
  ]
}
