// The steps of a probe as an operator writes them.

import { z } from 'zod'
import { name, oneOf } from '../core/settings.ts'
import { escaped, unescapeText } from './escapes.ts'
import { compiled, contains, matching, startsWith } from './expects.ts'
import type { Expect, Step } from './talk.ts'

const EITHER = 'send or expect'

const step = z
  .strictObject(
    {
      send: escaped().optional(),
      expect: name().optional(),
      strategy: oneOf(['starts_with', 'contains', 'regexp']).optional(),
    },
    { error: 'a table with send or expect' },
  )
  .superRefine(({ send, expect, strategy }, context) => {
    const wrong = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message })
    if ((send === undefined) === (expect === undefined)) wrong([], `${EITHER}, one of them`)
    if (send !== undefined && strategy !== undefined) wrong(['strategy'], 'nothing: it belongs to expect')
    if (expect === undefined) return
    if (strategy === 'regexp' && !compiled(expect)) wrong(['expect'], 'a regular expression (RE2 syntax)')
    if (strategy !== 'regexp' && !unescapeText(expect))
      wrong(['expect'], 'text with Go escapes, such as "OK\\r\\n"')
  })

type WrittenStep = z.output<typeof step>

/** A list of `{ send }` and `{ expect, strategy }`. */
export const script = () =>
  z
    .array(step, { error: 'a list of tables' })
    .refine((steps) => steps.some(({ expect }) => expect !== undefined), { error: 'at least one expect' })

/** Steps that say at which of them a conversation failed, counted from 1. */
export function stepsOf(written: readonly WrittenStep[]): readonly Step[] {
  return written.map(({ send, expect, strategy }, i) => {
    if (send !== undefined) return { send: unescapeText(send)! }
    return { expect: numbered(expected(expect!, strategy ?? 'starts_with'), i + 1) }
  })
}

function expected(text: string, strategy: NonNullable<WrittenStep['strategy']>): Expect {
  if (strategy === 'regexp') return matching(compiled(text)!)
  const bytes = unescapeText(text)!
  return strategy === 'contains' ? contains(bytes) : startsWith(bytes)
}

function numbered(expect: Expect, number: number): Expect {
  return (came, over) => {
    try {
      return expect(came, over)
    } catch (error) {
      throw new Error(`step ${number}: ${(error as Error).message}`, { cause: error })
    }
  }
}
