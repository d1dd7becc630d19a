// Healthy when it answers what is expected to what is sent, over TCP, TLS or UDP.

import { isIP } from 'node:net'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import type { Problem } from '../core/errors.ts'
import { count, oneOf, text } from '../core/settings.ts'
import type { Settings } from '../core/settings.ts'
import { check, healthy } from './check.ts'
import { anyEndpoint, dial } from './dial.ts'
import { unescapeGo } from './escapes.ts'
import { compiled, exactly } from './expects.ts'
import { script, stepsOf } from './script.ts'
import { dialSecure } from './secure.ts'
import { LONGEST, converse, converseByDatagrams } from './talk.ts'
import type { Expect, Step } from './talk.ts'
import { headerOf, where } from './where.ts'

const ESCAPED = String.raw`text with Go escapes, such as "PING\r\n"`

const settings = {
  ...where,
  probe_protocol: oneOf(['tcp', 'udp', 'tls']).describe('How the backend is spoken to.'),
  probe_send: text()
    .refine((text) => unescapeGo(text) !== undefined, { error: ESCAPED })
    .optional()
    .describe('What is sent, with the escapes of Go such as \\r\\n and \\x00.'),
  probe_recv: text()
    .optional()
    .describe('What must come back: text with the escapes of Go, or a regular expression.'),
  probe_strategy: oneOf(['starts_with', 'regexp'])
    .default('starts_with')
    .describe(
      'How the answer is judged: it begins with probe_recv, or matches it as a regular expression (RE2).',
    ),
  probe_recv_len: count()
    .refine((bytes) => bytes <= LONGEST, { error: `a whole number, ${LONGEST} or less` })
    .default(0)
    .describe(
      'Bytes to read before the regular expression looks at them; only for regexp, and needed there.',
    ),
  probe_steps: script()
    .optional()
    .describe(
      'Instead of probe_send and probe_recv, a list of { send } and { expect, strategy }, where strategy is starts_with, contains or regexp.',
    ),
}

type ProbeSettings = Settings<typeof settings>

export const probe = check({ settings, conflicts }, (settings) => {
  const steps = settings.probe_steps ? stepsOf(settings.probe_steps) : exchange(settings)
  const talk = TALKS[settings.probe_protocol](steps, headerOf(settings))
  return {
    run(target, signal) {
      const host = isUnix(target.address) ? '' : target.address.host
      return anyEndpoint(target, signal, async (endpoint, signal) =>
        healthy(await talk(endpoint, host, signal)),
      )
    },
  }
})

function conflicts(settings: ProbeSettings): readonly Problem[] {
  const problems: Problem[] = []
  const expect = (path: string, message: string) => problems.push({ path, message })
  const { probe_strategy, probe_send, probe_recv, probe_recv_len, probe_steps } = settings
  if (settings.probe_protocol === 'udp' && settings.check_proxy_protocol !== undefined)
    expect('check_proxy_protocol', 'nothing, since probe_protocol is udp')
  if (probe_steps) {
    // Empty ones are what the REST API shows of a probe without them.
    const [instead] = (['probe_send', 'probe_recv'] as const).filter((key) => settings[key])
    if (instead) expect('probe_steps', `nothing, since there is ${instead}`)
    return problems
  }
  if (!probe_send) expect('probe_send', unwritten(probe_send))
  if (!probe_recv) {
    expect('probe_recv', unwritten(probe_recv))
    return problems
  }
  if (probe_strategy === 'starts_with') {
    if (probe_recv_len > 0)
      expect('probe_recv_len', 'nothing: starts_with reads as much as probe_recv is long')
    if (!unescapeGo(probe_recv)) expect('probe_recv', ESCAPED)
    return problems
  }
  if (probe_recv_len === 0) expect('probe_recv_len', 'a whole number, 1 or more, as regexp needs it')
  if (!compiled(probe_recv)) expect('probe_recv', 'a regular expression (RE2 syntax)')
  return problems
}

function unwritten(text: string | undefined): string {
  return text === undefined ? 'a string' : 'a string that is not empty'
}

function exchange(settings: ProbeSettings): readonly Step[] {
  return [{ send: unescapeGo(settings.probe_send!)! }, { expect: expected(settings) }]
}

/** As many bytes as are asked for, and whether they are the right ones. */
function expected({ probe_strategy, probe_recv, probe_recv_len }: ProbeSettings): Expect {
  if (probe_strategy === 'starts_with') {
    const bytes = unescapeGo(probe_recv!)!
    return exactly(bytes.length, (answer) => answer.equals(bytes))
  }
  const pattern = compiled(probe_recv!)!
  // A character a byte, so that a pattern such as \xff can speak of any byte.
  return exactly(probe_recv_len, (answer) => pattern.matcher(answer.toString('latin1')).find())
}

type Talk = (endpoint: Address, host: string, signal: AbortSignal) => Promise<string>

const TALKS: Record<
  ProbeSettings['probe_protocol'],
  (steps: readonly Step[], ahead: Uint8Array | undefined) => Talk
> = {
  tcp: (steps, ahead) => (endpoint, _host, signal) => converse(dial(endpoint, signal, ahead), steps),
  tls: (steps, ahead) => async (endpoint, host, signal) => {
    // Verified against the authorities Node trusts and the configured name, as gobetween does: a backend with
    // a certificate of its own making fails.
    const servername = isIP(host) ? '' : host
    return converse(await dialSecure(endpoint, signal, { servername }, ahead), steps)
  },
  udp: (steps) => (endpoint, _host, signal) => converseByDatagrams(endpoint, steps, signal),
}
