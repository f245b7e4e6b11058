import { StartError } from '../errors.ts'
import type { Database } from './database.ts'
import type { SecretBox } from './secret-box.ts'

/** The one row, and what its value is sealed for. */
export const masterKeyProof = 'master-key'

/**
 * Throws `StartError` unless `secretBox` has the key that the secrets in the database are under: a node with another one
 * would fail each request that needs a secret, and store secrets that the others cannot read.
 */
export async function proveMasterKey({ queries }: Database, secretBox: SecretBox): Promise<void> {
  // The first node to come writes the proof.
  await queries
    .insertInto('master_key_proofs')
    .values({ id: masterKeyProof, sealed_proof: secretBox.seal('proof', masterKeyProof) })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  const { sealed_proof } = await queries
    .selectFrom('master_key_proofs')
    .selectAll()
    .where('id', '=', masterKeyProof)
    .executeTakeFirstOrThrow()
  try {
    secretBox.open(sealed_proof, masterKeyProof)
  } catch (cause) {
    throw new StartError(
      'The secrets in the database were encrypted under another master key. Set TOLLGATE_MASTER_KEY to that one, the same on every node.',
      { cause },
    )
  }
}
