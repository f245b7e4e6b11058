/**
 * What a group's limits come to once its place in the tree is taken into account (contract §7). Pure: the
 * management API shows what `effectiveModels` gives, and the inference plane enforces the same limits through
 * `bucketSet` in `buckets.ts`.
 */
export const limitTypes = ['REQUEST', 'TOKEN'] as const
export type LimitType = (typeof limitTypes)[number]

export const rateLimitUnits = ['SECOND', 'MINUTE'] as const
export type RateLimitUnit = (typeof rateLimitUnits)[number]

export const usageLimitUnits = ['DAY'] as const
export type UsageLimitUnit = (typeof usageLimitUnits)[number]

export const limitEnforcements = ['CASCADING', 'INDEPENDENT'] as const
export type LimitEnforcement = (typeof limitEnforcements)[number]

export interface RateLimit {
  type: LimitType
  unit: RateLimitUnit
  threshold: number
}

export interface UsageLimit {
  type: LimitType
  unit: UsageLimitUnit
  threshold: number
}

/** A model that a group declares, with the group's own limits for it. */
export interface ModelLimits {
  slug: string
  rate_limits: readonly RateLimit[]
  usage_limits: readonly UsageLimit[]
}

/** A group as its hierarchy sees it. Paths run from the group itself to its root. */
export interface GroupOnPath {
  id: string
  /** By slug, in the order declared: what a slug's limits are is looked up, for a group may have 1,000 of them. */
  models: ReadonlyMap<string, ModelLimits>
}

export function bySlug<Model extends ModelLimits>(models: readonly Model[]): ReadonlyMap<string, Model> {
  return new Map(models.map((model) => [model.slug, model]))
}

/** A limit together with the group that declared it. */
export type Effective<Limit> = Limit & { source_group: string }

export interface EffectiveModel {
  slug: string
  rate_limits: Effective<RateLimit>[]
  usage_limits: Effective<UsageLimit>[]
}

/** The group's own slugs, in the order declared, each with every limit that a request for it must fit. */
export function effectiveModels(enforcement: LimitEnforcement, path: readonly GroupOnPath[]): EffectiveModel[] {
  const [group] = path
  const slugs = group === undefined ? [] : [...group.models.keys()]
  return slugs.map((slug) => effectiveModel(enforcement, path, slug))
}

/** The limits for one slug: nearest group first, within a group as declared. */
export function effectiveModel(
  enforcement: LimitEnforcement,
  path: readonly GroupOnPath[],
  slug: string,
): EffectiveModel {
  const chosen = choice[enforcement]
  return {
    slug,
    rate_limits: chosen(declaredOnPath(path, slug, ({ rate_limits }) => rate_limits)),
    usage_limits: chosen(declaredOnPath(path, slug, ({ usage_limits }) => usage_limits)),
  }
}

const choice = {
  INDEPENDENT: nearestOfEachKind,
  CASCADING: (limits) => limits,
} satisfies Record<LimitEnforcement, <Limit extends AnyLimit>(limits: Limit[]) => Limit[]>

type AnyLimit = RateLimit | UsageLimit

function nearestOfEachKind<Limit extends AnyLimit>(limits: Limit[]): Limit[] {
  return limits.filter((limit) => limits.find((other) => sameKind(other, limit)) === limit)
}

function declaredOnPath<Limit extends AnyLimit>(
  path: readonly GroupOnPath[],
  slug: string,
  limitsOf: (model: ModelLimits) => readonly Limit[],
): Effective<Limit>[] {
  return path.flatMap(({ id, models }) => {
    const model = models.get(slug)
    return model === undefined ? [] : limitsOf(model).map((limit) => ({ ...limit, source_group: id }))
  })
}

/** Two limits of one hierarchy, of the same slug, type and unit, the lower one above the upper one. */
export interface CascadingViolation {
  slug: string
  type: LimitType
  unit: RateLimitUnit | UsageLimitUnit
  ancestor: { id: string; threshold: number }
  descendant: { id: string; threshold: number }
}

export interface Surroundings {
  ancestors: readonly GroupOnPath[]
  descendants: readonly GroupOnPath[]
}

/**
 * The first clash that writing `group` would leave in a CASCADING hierarchy, looking both ways, or null
 * (contract §7: a threshold above an ancestor's, or an ancestor's below a descendant's).
 */
export function cascadingViolation(
  group: GroupOnPath,
  { ancestors, descendants }: Surroundings,
): CascadingViolation | null {
  for (const ancestor of ancestors) {
    const violation = violationBetween(ancestor, group)
    if (violation !== null) return violation
  }
  for (const descendant of descendants) {
    const violation = violationBetween(group, descendant)
    if (violation !== null) return violation
  }
  return null
}

function violationBetween(ancestor: GroupOnPath, descendant: GroupOnPath): CascadingViolation | null {
  for (const [slug, model] of descendant.models) {
    const above = ancestor.models.get(slug)
    if (above === undefined) continue
    const bounds = allLimits(above)
    for (const limit of allLimits(model)) {
      const bound = bounds.find((other) => sameKind(other, limit))
      if (bound === undefined || limit.threshold <= bound.threshold) continue
      return {
        slug,
        type: limit.type,
        unit: limit.unit,
        ancestor: { id: ancestor.id, threshold: bound.threshold },
        descendant: { id: descendant.id, threshold: limit.threshold },
      }
    }
  }
  return null
}

/**
 * Whether `group` has a limit that `other` has not, or has higher. Where it has none, whatever fits below `other` in a
 * CASCADING hierarchy fits below `group` too.
 */
export function isTighter(group: GroupOnPath, other: GroupOnPath): boolean {
  for (const [slug, model] of group.models) {
    const others = other.models.get(slug)
    const bounds = others === undefined ? [] : allLimits(others)
    const isBounded = (limit: AnyLimit) =>
      bounds.some((bound) => sameKind(bound, limit) && bound.threshold <= limit.threshold)
    if (!allLimits(model).every(isBounded)) return true
  }
  return false
}

function allLimits({ rate_limits, usage_limits }: ModelLimits): AnyLimit[] {
  return [...rate_limits, ...usage_limits]
}

function sameKind(one: AnyLimit, other: AnyLimit): boolean {
  return one.type === other.type && one.unit === other.unit
}
