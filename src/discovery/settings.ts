// The discovery section of a server: the keys all kinds share, and each kind's own.

import { z } from 'zod'
import { duration, oneOf } from '../core/settings.ts'
import type { Shape } from '../core/settings.ts'
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
}

type Section<K extends string, S extends z.core.$ZodShape> = z.ZodObject<
  { kind: z.ZodLiteral<K> } & typeof common & S,
  z.core.$strict
>
type Sections = { [K in DiscoveryName]: Section<K, Kinds[K]['settings']> }[DiscoveryName]

const names = Object.keys(kinds) as DiscoveryName[]

/** Reads a discovery section. A kind that is unknown leaves the other keys unjudged. */
export const discoverySettings = z.discriminatedUnion(
  'kind',
  names.map(section) as [Sections, ...Sections[]],
  {
    error: ({ code }) => (code === 'invalid_union' ? `one of ${names.join(', ')}` : 'a table'),
  },
)

export type DiscoverySettings = z.output<typeof discoverySettings>

function section(kind: DiscoveryName): Sections {
  const own: Shape = kinds[kind].settings
  return z.strictObject({
    kind: z.literal(kind).describe('How backends are found.'),
    ...common,
    ...own,
  }) as unknown as Sections
}
