import { z } from 'zod'
import { limitTypes, rateLimitUnits, usageLimitUnits } from '../limits/effective-limits.ts'
import { slugLengthMax } from '../slug.ts'
import { distinct } from './distinct.ts'

const LimitType = z.enum(limitTypes).meta({ id: 'LimitTypeV1' })
const RateLimitUnit = z.enum(rateLimitUnits).meta({ id: 'RateLimitUnitV1' })
const UsageLimitUnit = z.enum(usageLimitUnits).meta({ id: 'UsageLimitUnitV1' })
const threshold = z.int().min(0).describe('The most that is admitted in one unit of time; 0 blocks.')
const source_group = z.string().describe('The group that declared the limit.')

const RateLimit = z.strictObject({ type: LimitType, unit: RateLimitUnit, threshold }).meta({ id: 'RateLimitV1' })
const UsageLimit = z.strictObject({ type: LimitType, unit: UsageLimitUnit, threshold }).meta({ id: 'UsageLimitV1' })

/** A model that a group or user may call, with the limits that it declares itself (contract §7). */
export const ModelConfig = z
  .strictObject({
    slug: z.string().max(slugLengthMax).regex(/^\S+$/, 'Must be a slug: not empty, and without spaces.'),
    rate_limits: distinct(RateLimit, {
      by: ({ type, unit }) => `${type} per ${unit}`,
      message: (limit) => `There is already a rate limit on ${limit}.`,
    }).default([]),
    usage_limits: distinct(UsageLimit, {
      by: ({ type, unit }) => `${type} per ${unit}`,
      message: (limit) => `There is already a usage limit on ${limit}.`,
    }).default([]),
  })
  .meta({ id: 'ModelConfigV1' })
export type ModelConfig = z.output<typeof ModelConfig>

/** A whole set of models, as answers show it. */
export const ModelConfigs = distinct(ModelConfig, {
  by: ({ slug }) => slug,
  message: (slug) => `${slug} is already in the list.`,
})

const modelsMax = 1_000

/** A whole set as requests give it: what it lists replaces what was there. A larger one of before the bound still shows. */
export const GivenModelConfigs = ModelConfigs.max(modelsMax, `There may be at most ${modelsMax} models.`)

const EffectiveRateLimit = RateLimit.extend({ source_group }).meta({ id: 'EffectiveRateLimitV1' })
export const EffectiveUsageLimit = UsageLimit.extend({ source_group }).meta({ id: 'EffectiveUsageLimitV1' })

/** A model with every limit that a request for it must fit, inherited ones included. */
export const EffectiveModelConfig = z
  .object({
    slug: z.string(),
    rate_limits: z.array(EffectiveRateLimit),
    usage_limits: z.array(EffectiveUsageLimit),
  })
  .meta({ id: 'EffectiveModelConfigV1' })
