// The healthcheck section of a server: the keys all kinds share, and each kind's own.

import { z } from 'zod'
import { duration, oneOf, positiveDuration, ruled } from '../core/settings.ts'
import type { Check, CheckKind, Target } from './check.ts'
import * as kinds from './kinds.ts'
import { elsewhere } from './where.ts'
import type { Elsewhere } from './where.ts'

type Kinds = typeof kinds
export type CheckName = keyof Kinds

const INTEGER = 'a whole number'

/** How many results in a row; as in gobetween 0 and less are 1. A numeric string is taken too. */
const inARow = () =>
  z
    .union([z.number(), z.string().regex(/^\s*[-+]?\d+\s*$/, { error: INTEGER })], { error: INTEGER })
    .transform(Number)
    .refine(Number.isSafeInteger, { error: INTEGER })
    .transform((value) => Math.max(1, value))
    .default(1)

const common = {
  interval_down: positiveDuration()
    .optional()
    .describe(
      'The interval while a backend is down, or a check might turn it over; unset is the interval itself.',
    ),
  timeout: duration()
    .default(0)
    .describe('Longest one check may take; "0" is the interval, but at least 1s.'),
  passes: inARow().describe('Checks in a row that must pass before a backend counts as healthy.'),
  fails: inARow().describe('Checks in a row that must fail before a backend counts as unhealthy.'),
  initial_status: oneOf(['healthy', 'unhealthy'])
    .optional()
    .describe('What a backend counts as before its first check; unset is healthy.'),
}

const INTERVAL = 'Time between the beginnings of two checks of one backend; above 0 for every kind but none.'

const intervals = {
  checked: { interval: positiveDuration().describe(INTERVAL) },
  /** Of no use without checks. */
  unchecked: { interval: duration().default(0).describe(INTERVAL) },
}

type Interval<K> = (typeof intervals)[K extends 'none' ? 'unchecked' : 'checked']
type Section<K extends string, S extends z.core.$ZodShape> = z.ZodObject<
  { kind: z.ZodLiteral<K> } & Interval<K> & typeof common & S,
  z.core.$strict
>
type Sections = { [K in CheckName]: Section<K, Kinds[K]['settings']> }[CheckName]

const names = Object.keys(kinds) as CheckName[]

/** Reads a healthcheck section. Where there is none, read `{ kind: 'none' }`. */
export const checkSettings = z.discriminatedUnion('kind', names.map(section) as [Sections, ...Sections[]], {
  error: ({ code }) => (code === 'invalid_union' ? `one of ${names.join(', ')}` : 'a table'),
})

export type CheckSettings = z.output<typeof checkSettings>

/** The check a section asks for; undefined when backends are not to be checked. */
export function createCheck(settings: CheckSettings): Check | undefined {
  return kindOf(settings.kind).create(settings)
}

/**
 * `target` with `check_host` and `check_port` in place of its endpoints' own; its `address` stays. Once for all
 * checks of a target: a kind may remember by the object what was said before.
 */
export function checkedAt(settings: CheckSettings, target: Target): Target {
  const { agent_port, ...rest } = settings as Elsewhere & { readonly agent_port?: number }
  return elsewhere(agent_port === undefined ? rest : { ...rest, check_port: agent_port }, target)
}

/** Protocols of servers whose backends a kind can check. */
export function protocolsOf(kind: CheckName): CheckKind['protocols'] {
  return kindOf(kind).protocols
}

function kindOf(kind: CheckName): CheckKind {
  return kinds[kind]
}

function section(kind: CheckName): Sections {
  const own = kindOf(kind)
  const interval = intervals[kind === 'none' ? 'unchecked' : 'checked']
  const object = z.strictObject({
    kind: z.literal(kind).describe('How backends are checked.'),
    ...interval,
    ...common,
    ...own.settings,
  })
  return ruled(object, (values) => own.conflicts?.(values) ?? []) as unknown as Sections
}
