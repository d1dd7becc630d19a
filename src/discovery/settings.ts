// The discovery section of a server: the keys all kinds share, and each kind's own.

import { z } from 'zod'
import { duration, oneOf } from '../core/settings.ts'
import type { Shape } from '../core/settings.ts'
import * as kinds from './kinds.ts'

type Kinds = typeof kinds
export type DiscoveryName = keyof Kinds

const common = {
  /** What backends there are while the source fails: those last heard of, or none. */
  failpolicy: oneOf(['keeplast', 'setempty']).default('keeplast'),
  /** Time between two questions; 0 asks until it has worked once. */
  interval: duration().default(0),
  /** Longest one question may take; unset is the kind's own, 0 without limit. */
  timeout: duration().optional(),
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
  return z.strictObject({ kind: z.literal(kind), ...common, ...own }) as unknown as Sections
}
