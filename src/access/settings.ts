// The access section of a server, as written.

import { z } from 'zod'
import { oneOf, text } from '../core/settings.ts'
import { readRule } from './rules.ts'

const rule = () => text().refine((line) => typeof readRule(line) !== 'string', { error: expectedOf })

/** Keys of the access section. A bad rule is reported at its own path, `rules[3]`. */
export const accessSettings = {
  default: oneOf(['allow', 'deny']).default('allow'),
  rules: z.array(rule(), { error: 'a list of strings' }).default([]),
}

/** Asked only about lines that are no rule. */
function expectedOf(issue: { input?: unknown }): string {
  return readRule(issue.input as string) as string
}
