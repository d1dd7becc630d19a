// The shapes configuration values come in. A message names what was expected; where it stood and what was
// got is added when the problem is reported.

import { z } from 'zod'
import { parseDuration } from './duration.ts'
import type { Problem } from './errors.ts'

/** A zod object's inside: key to schema. Each kind exports one; its keys are the config's keys. */
export type Shape = z.core.$ZodLooseShape

/** The values a shape gives once read. */
export type Settings<S extends Shape> = z.output<z.ZodObject<S>>

/** Any text. */
export const text = () => z.string({ error: 'a string' })

/** Text that is not empty. */
export const name = () => text().min(1, { error: 'a string that is not empty' })

export const flag = () => z.boolean({ error: 'true or false' })

/** A whole number of at least `least`; a numeric string is taken too. */
export const count = (least = 0, error = `a whole number, ${least} or more`) =>
  z
    .union([z.number(), z.string().regex(/^\s*\d+\s*$/, { error })], { error })
    .transform(Number)
    .refine((value) => Number.isSafeInteger(value) && value >= least, { error })
    .meta({ least })

/** A number of at least `least`; a numeric string is taken too. */
export const number = (least: number) => {
  const error = `a number, ${least} or more`
  return z
    .union([z.number(), z.string().regex(/^\s*\d+(\.\d+)?\s*$/, { error })], { error })
    .transform(Number)
    .refine((value) => Number.isFinite(value) && value >= least, { error })
}

const DURATION = 'a duration such as "2s"'

/** A duration as Go writes them, read into milliseconds; never negative. A bare number 0 is taken too. */
export const duration = () =>
  z
    .union([z.string(), z.literal(0)], { error: DURATION })
    .transform((value) => parseDuration(String(value)))
    .refine((ms) => ms >= 0, { error: DURATION })
    .meta({ duration: true })

/** A duration above zero, read into milliseconds. */
export const positiveDuration = () => duration().refine((ms) => ms > 0, { error: 'a duration above 0' })

/** One of `values`. */
export const oneOf = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, { error: `one of ${values.join(', ')}` })

/** A list of texts. */
export const texts = () => z.array(text(), { error: 'a list of strings' })

/** A TCP or UDP port, 1 to 65535; a numeric string is taken too. */
export const port = () => count(1, PORT).refine((value) => value <= 65535, { error: PORT })

const PORT = 'a port, 1 to 65535'

const PERCENT = 'a percentage such as "50%"'

/** A share as a percentage, `"50%"`, read into a fraction of 0 to 1. */
export const percent = () =>
  text()
    .regex(/^\s*\d+(\.\d+)?\s*%\s*$/, { error: PERCENT })
    .transform((value) => parseFloat(value) / 100)
    .refine((share) => share <= 1, { error: PERCENT })

/** `object` with rules between its keys: each problem is told at its key. */
export function ruled<T extends z.ZodObject>(
  object: T,
  conflicts: (values: z.output<T>) => readonly Problem[],
): T {
  return object.superRefine((values, context) => {
    for (const { path, message } of conflicts(values))
      context.addIssue({
        code: 'custom',
        path: [path],
        message,
        input: (values as Record<string, unknown>)[path],
      })
  })
}
