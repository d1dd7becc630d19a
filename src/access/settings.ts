// The access section of a server, as written.

import { z } from 'zod'
import { oneOf, text } from '../core/settings.ts'
import { readRule } from './rules.ts'

const rule = () => text().refine((line) => typeof readRule(line) !== 'string', { error: expectedOf })

/** Keys of the access section. A bad rule is reported at its own path, `rules[3]`. */
export const accessSettings = {
  default: oneOf(['allow', 'deny']).default('allow').describe('What becomes of a client no rule names.'),
  rules: z
    .array(rule(), { error: 'a list of strings' })
    .default([])
    .describe('Rules such as "allow 10.0.0.0/8" or "deny 2001:db8::1"; the first that matches decides.'),
}

/** Asked only about lines that are no rule. */
function expectedOf(issue: { input?: unknown }): string {
  return readRule(issue.input as string) as string
}
