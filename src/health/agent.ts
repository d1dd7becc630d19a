// Does what an agent beside the backend says: HAProxy's agent-check, a line such as "up 75% maxconn:30".
//
//   up · down · fail · stopped   whether the service works; the last one said holds
//   ready · drain · maint        whether it is wanted: maint is drain here, neither ends a flow
//   75% · maxconn:30             how much of it is wanted
//   # …                          why
//
// There is no other check beside it, so an agent that cannot be reached makes its backend unhealthy, and one that
// never spoke of up or down a healthy one.

import { port } from '../core/settings.ts'
import { check, healthy, unhealthy } from './check.ts'
import type { Advice, Result, Target } from './check.ts'
import { anyEndpoint, dial, unknown } from './dial.ts'
import { escaped, unescapeText } from './escapes.ts'
import { quoted } from './expects.ts'
import { converse } from './talk.ts'
import type { Expect, Step } from './talk.ts'
import { headerOf, where } from './where.ts'

/** The largest share an agent may ask for; the pool's columns hold the weight it makes. */
const MOST_PERCENT = 10_000
const MOST_CONNECTIONS = 2 ** 31 - 1

const settings = {
  check_host: where.check_host,
  check_proxy_protocol: where.check_proxy_protocol,
  agent_port: port().describe('Port of the agent.'),
  agent_send: escaped()
    .optional()
    .describe('What the agent is sent first, with the escapes of Go such as \\n; unset is nothing.'),
}

export const agent = check({ settings }, (settings) => {
  const ahead = headerOf({ ...settings, check_port: undefined })
  const asked: Step[] = settings.agent_send ? [{ send: unescapeText(settings.agent_send)! }] : []
  const steps: Step[] = [...asked, { expect: sentence }]
  /** Whom an agent called down, and in which words. */
  const down = new WeakMap<Target, string>()
  return {
    run: (target, signal) =>
      anyEndpoint(target, signal, async (endpoint, signal) =>
        verdict(await converse(dial(endpoint, signal, ahead), steps), target, down),
      ),
  }
})

/** A line, however it ends: an agent may also just close. */
const sentence: Expect = (came, over) => {
  const text = came.toString('latin1')
  const end = text.search(/[\r\n]/)
  if (end < 0 && !(over === 'closed' && text !== '')) return undefined
  return { used: came.length, said: end < 0 ? text : text.slice(0, end) }
}

function verdict(said: string, target: Target, down: WeakMap<Target, string>): Result {
  const { state, advice, strange } = understood(said)
  const reason = `agent says ${quoted(said)}`
  if (state === 'up') down.delete(target)
  if (state === 'down') down.set(target, reason)
  const before = down.get(target)
  if (state === undefined && advice === undefined)
    return unknown(`${reason}, expected words such as up, down, drain, 75%`)
  const hint = strange.length > 0 ? `, where ${quoted(strange.join(' '))} means nothing` : ''
  const result = before === undefined ? healthy(reason + hint) : unhealthy(state ? reason + hint : before)
  return advice ? { ...result, advice } : result
}

interface Understood {
  state?: 'up' | 'down'
  advice?: Advice
  readonly strange: string[]
}

/** The words of a line up to its `#`. */
function understood(said: string): Understood {
  const understood: Understood = { strange: [] }
  for (const word of said
    .split('#')[0]!
    .split(/[\s,]+/)
    .filter(Boolean)) {
    const state = STATES.get(word.toLowerCase())
    const advice = adviceOf(word.toLowerCase())
    if (state) understood.state = state
    else if (advice) understood.advice = { ...understood.advice, ...advice }
    else understood.strange.push(word)
  }
  return understood
}

const STATES: ReadonlyMap<string, 'up' | 'down'> = new Map([
  ['up', 'up'],
  ['down', 'down'],
  ['fail', 'down'],
  ['stopped', 'down'],
])

function adviceOf(word: string): Advice | undefined {
  if (word === 'ready') return { drain: false }
  if (word === 'drain' || word === 'maint') return { drain: true }
  const [, percent, connections] = /^(?:(\d{1,5})%|maxconn:(\d{1,10}))$/.exec(word) ?? []
  if (percent !== undefined && Number(percent) <= MOST_PERCENT) return { share: Number(percent) / 100 }
  if (connections === undefined || Number(connections) > MOST_CONNECTIONS) return undefined
  return { maxConnections: Number(connections) }
}
