// The discovery section of a server: the keys all kinds share, and each kind's own.

import { z } from 'zod'
import { count, duration, oneOf, percent, ruled } from '../core/settings.ts'
import type { DiscoveryKind } from './discovery.ts'
import * as kinds from './kinds.ts'

type Kinds = typeof kinds
export type DiscoveryName = keyof Kinds

const common = {
  failpolicy: oneOf(['keeplast', 'setempty'])
    .default('keeplast')
    .describe(
      'What happens while the source fails: the last list stays (keeplast), or no backend is left (setempty).',
    ),
  interval: duration().default(0).describe('Time between two questions; "0" asks until it has worked once.'),
  timeout: duration()
    .optional()
    .describe('Longest one question may take; unset is what the kind usually needs, "0" is no limit.'),
  max_staleness: duration()
    .default(0)
    .describe('While the source fails, the last list is trusted for this long; "0" is for ever.'),
  stale_policy: oneOf(['setempty', 'keeplast'])
    .default('setempty')
    .describe(
      'What happens to a list older than max_staleness: no backend is left (setempty), or it stays and the log and the metrics say so (keeplast).',
    ),
  min_backends: count()
    .default(0)
    .describe('An answer that leaves fewer backends than this is not believed at once; 0 believes any.'),
  max_removal: percent()
    .optional()
    .describe(
      'An answer that drops more than this share of five or more backends is not believed at once, such as "50%"; unset believes any.',
    ),
  removal_hold: duration()
    .default(30_000)
    .describe(
      'How long the backends stay that an answer would drop against min_backends or max_removal; then it is asked again and believed.',
    ),
  readmit_delay: duration()
    .default(0)
    .describe(
      'How long a backend waits that comes back for the third time within a minute; "0" is not at all.',
    ),
}

type Section<K extends string, S extends z.core.$ZodShape> = z.ZodObject<
  { kind: z.ZodLiteral<K> } & typeof common & S,
  z.core.$strict
>
type Sections = { [K in DiscoveryName]: Section<K, Kinds[K]['settings']> }[DiscoveryName]

const names = Object.keys(kinds) as DiscoveryName[]

const KIND = 'How backends are found.'

const sections = names.map(section) as [Sections, ...Sections[]]

/** One source: a discovery section of any kind but `multi`. */
export const sourceSettings = z.discriminatedUnion('kind', sections, { error: expectedKind(names) })

export type SourceSettings = z.output<typeof sourceSettings>

const multi = z.strictObject({
  kind: z.literal('multi').describe(KIND),
  sources: z
    .array(sourceSettings, { error: 'a list of tables' })
    .min(1, { error: 'a list with a source or more' })
    .describe(
      'Discovery sections of other kinds, each a table; an address that several list is one backend.',
    ),
})

/** Reads a discovery section. A kind that is unknown leaves the other keys unjudged. */
export const discoverySettings = z.discriminatedUnion(
  'kind',
  [...sections, multi] as [Sections, typeof multi],
  {
    error: expectedKind([...names, 'multi']),
  },
)

export type DiscoverySettings = z.output<typeof discoverySettings>

/** The sources a section asks for, in their order. */
export function sourcesOf(settings: DiscoverySettings): readonly SourceSettings[] {
  return settings.kind === 'multi' ? settings.sources : [settings]
}

function expectedKind(all: readonly string[]) {
  return ({ code }: { code?: string | undefined }) =>
    code === 'invalid_union' ? `one of ${all.join(', ')}` : 'a table'
}

function section(kind: DiscoveryName): Sections {
  const own = kinds[kind] as unknown as DiscoveryKind
  const object = z.strictObject({ kind: z.literal(kind).describe(KIND), ...common, ...own.settings })
  return ruled(object, (values) => own.conflicts?.(values) ?? []) as unknown as Sections
}
