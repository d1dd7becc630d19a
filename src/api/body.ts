// A request's body: the first JSON value in it, as Go's decoder takes it.

import { parseJson } from '../config/parse.ts'
import { valueText } from '../config/problems.ts'
import { isTable } from '../config/tidy.ts'
import type { Table } from '../config/tidy.ts'
import { ConfigError, messageOf } from '../core/errors.ts'
import { BodyError } from './problem.ts'

const NAME = 'request body'

/** A longer body is not walked for the place of its fault: that takes seconds, and clients wait meanwhile. */
const LONGEST_WALK = 64 * 1024

/**
 * The object that `text` begins with; what follows it is ignored. Throws `BodyError` when there is none, for
 * a body of up to 64 KiB with line, column and excerpt.
 */
export function readBody(text: string): Table {
  const value = firstValue(text)
  if (!isTable(value)) throw new BodyError(`${NAME}: expected an object, got ${valueText(value)}`)
  return value
}

function firstValue(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    // V8 says so where a value is over and something else follows.
    const end = /after JSON at position (\d+)/.exec(messageOf(error))?.[1]
    return end ? JSON.parse(text.slice(0, Number(end))) : fail(text, error)
  }
}

function fail(text: string, error: unknown): never {
  if (text.length > LONGEST_WALK) throw new BodyError(`${NAME}: ${messageOf(error)}`)
  try {
    parseJson(text, NAME)
  } catch (fault) {
    if (!(fault instanceof ConfigError)) throw fault
    throw new BodyError(fault.problems.map(({ path, message }) => `${path}: ${message}`).join('\n'))
  }
  // Only a byte order mark is read differently there.
  throw new BodyError(`${NAME}: ${messageOf(error)}`)
}
