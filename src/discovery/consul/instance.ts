// An instance of a service as Consul describes it, read into a backend.
//
// What is said of it, the later before the earlier: its weights, its tags, its metadata.

import { isIPv6 } from 'node:net'
import { z } from 'zod'
import { parseBackendAddress } from '../../core/address.ts'
import { found } from '../../core/backend.ts'
import type { Found } from '../../core/backend.ts'
import { text } from '../../core/settings.ts'
import { labelOptions, pairs, quote } from '../reading/options.ts'

/** The longest instance; reading one keeps clients waiting. */
const MOST_BYTES = 1024 * 1024

const object = { error: 'an object' }
const SHARE = 'a whole number, 0 to 65535'
const share = z.int({ error: SHARE }).min(0, { error: SHARE }).max(65_535, { error: SHARE })

const instance = z.object(
  {
    Node: z.object({ Address: text().nullish() }, object).nullish(),
    Service: z.object(
      {
        ID: text().nullish(),
        Address: text().nullish(),
        Port: z.number({ error: 'a number' }),
        Tags: z.array(text(), { error: 'a list of strings' }).nullish(),
        Meta: z.record(z.string(), text(), object).nullish(),
        Weights: z.object({ Passing: share, Warning: share }, object).nullish(),
      },
      object,
    ),
    Checks: z.array(z.object({ Status: text() }, object), { error: 'a list' }).nullish(),
  },
  object,
)

type Instance = z.output<typeof instance>

/**
 * Reads an entry of `/v1/health/service/NAME`. `wrong` are ends of sentences that begin with its place; with no
 * backend it cannot be used. Throws when it is no JSON.
 */
export function readInstance(json: Buffer): { backend?: Found; wrong: readonly string[] } {
  if (json.length > MOST_BYTES)
    return { wrong: [`: expected at most ${MOST_BYTES} bytes, got ${json.length}`] }
  const { data, error } = instance.safeParse(JSON.parse(json.toString()))
  if (error) {
    const { path, message } = error.issues[0]!
    return { wrong: [`: ${path.length > 0 ? `${path.join('.')}: ` : ''}expected ${message}`] }
  }
  const { Service: service, Node: node } = data
  const id = service.ID ? ` ${quote(service.ID)}` : ''
  const host = service.Address || node?.Address || ''
  const where = `${isIPv6(host) ? `[${host}]` : host}:${service.Port}`
  const address = parseBackendAddress(where)
  if (!address) return { wrong: [`${id}: expected an address and a port, got ${quote(where)}`] }

  const tags = service.Tags ?? []
  const sni = tags.findLast((tag) => tag.startsWith('sni='))?.slice('sni='.length)
  const { options, wrong } = labelOptions([
    ...(sni ? [['fairlead.sni', sni] as const] : []),
    ...pairs(tags),
    ...Object.entries(service.Meta ?? {}),
  ])
  const backend = found(address, { weight: weightOf(data), ...options })
  return { backend, wrong: wrong.map((each) => `${id}: ${each.slice(0, 200)}`) }
}

/** Consul has one weight for those whose checks pass, and one for those whose checks warn. */
function weightOf({ Service: { Weights: weights }, Checks: checks }: Instance): number {
  if (!weights) return 1
  const says = (status: string) => checks?.some(({ Status }) => Status === status)
  return says('warning') && !says('critical') ? weights.Warning : weights.Passing
}
