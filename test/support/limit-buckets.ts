import { type Bucket, counterKey } from '../../src/limits/buckets.ts'

let owners = 0

/** An owner that no other test counts, so that tests may share a store. */
export function newOwner(): string {
  owners += 1
  return `group-${process.pid}-${owners}`
}

/** A bucket as `bucketSet` would make it. */
export function bucket(fields: Partial<Omit<Bucket, 'key' | 'limit'>> & Pick<Bucket, 'threshold'>): Bucket {
  const bare = {
    owner: newOwner(),
    slug: 'lab/model',
    type: 'REQUEST',
    unit: 'SECOND',
    scope: 'group',
    ...fields,
  } as const
  return { ...bare, key: counterKey(bare), limit: bare.unit === 'DAY' ? 'usage' : 'rate' }
}
