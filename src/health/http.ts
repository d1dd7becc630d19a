// Healthy when a web server answers with an expected status, and with an expected body where one is given.

import { z } from 'zod'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import type { Problem } from '../core/errors.ts'
import { name, oneOf, text } from '../core/settings.ts'
import type { Settings } from '../core/settings.ts'
import { check, healthy } from './check.ts'
import { anyEndpoint, dial } from './dial.ts'
import { compiled, quoted } from './expects.ts'
import { secureConflicts, secureKeys, securely } from './secure.ts'
import { GOODBYE, converse, shown } from './talk.ts'
import type { Expect, Step } from './talk.ts'
import { headerOf, where } from './where.ts'

const STATUS = 'statuses such as "200-299", "2xx" or "200, 404"'

const asked = {
  ...where,
  http_method: oneOf(['GET', 'HEAD', 'OPTIONS']).default('GET').describe('Method of the request.'),
  http_path: text()
    .regex(/^(\/[!-~]*|\*)$/, { error: 'a path such as "/health"' })
    .default('/')
    .describe('Path of the request, with its query.'),
  http_host: text()
    .regex(/^[!-~]+$/, { error: 'a host such as "example.com"' })
    .optional()
    .describe('Host header of the request; unset is the host of the backend.'),
  http_headers: z
    .record(
      z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/, { error: 'the name of a header' }),
      text().regex(/^[^\0\r\n]*$/, { error: 'the value of a header' }),
      { error: 'a table of strings' },
    )
    .default({})
    .describe('Further headers of the request.'),
  http_status: text()
    .refine((text) => rangesOf(text) !== undefined, { error: STATUS })
    .default('200-399')
    .describe('Statuses that are healthy: "200-299", "2xx" or "200, 404".'),
  http_body: name().optional().describe('Text that must be in the body, in its first 64 KiB.'),
  http_body_regexp: name()
    .refine((pattern) => compiled(pattern) !== undefined, { error: 'a regular expression (RE2 syntax)' })
    .optional()
    .describe('Regular expression (RE2) that must match in the body, in its first 64 KiB.'),
}

type HttpSettings = Settings<typeof asked>

export const http = check({ settings: asked, conflicts }, (settings) => {
  const ahead = headerOf(settings)
  const steps = stepsOf(settings, 80)
  return {
    run: (target, signal) =>
      anyEndpoint(target, signal, async (endpoint, signal) =>
        healthy(await converse(dial(endpoint, signal, ahead), steps(target.address, endpoint))),
      ),
  }
})

export const https = check(
  {
    settings: { ...asked, ...secureKeys },
    conflicts: (settings) => [...conflicts(settings), ...secureConflicts(settings)],
  },
  (settings) => {
    const steps = stepsOf(settings, 443)
    return {
      run: securely(settings, async (socket, { address }, endpoint) =>
        healthy(await converse(socket, steps(address, endpoint))),
      ),
    }
  },
)

function conflicts(settings: HttpSettings): readonly Problem[] {
  const problems: Problem[] = []
  const expect = (path: string, message: string) => problems.push({ path, message })
  const { http_body, http_body_regexp, http_method, http_headers } = settings
  if (http_body !== undefined && http_body_regexp !== undefined)
    expect('http_body_regexp', 'nothing, since there is http_body')
  if (http_method === 'HEAD' && (http_body ?? http_body_regexp) !== undefined)
    expect('http_method', 'GET or OPTIONS, since a body is expected')
  if (Object.keys(http_headers).some((each) => each.toLowerCase() === 'host'))
    expect('http_headers', 'no Host: that is http_host')
  return problems
}

/** The conversation with a backend, at one of its endpoints. */
function stepsOf(settings: HttpSettings, standardPort: number) {
  const { http_method, http_path, http_headers, http_host } = settings
  const own = Object.keys(http_headers).map((each) => each.toLowerCase())
  const headers = Object.entries({ 'User-Agent': 'fairlead', Accept: '*/*', Connection: 'close' })
    .filter(([name]) => !own.includes(name.toLowerCase()))
    .concat(Object.entries(http_headers))
  const rest = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const expect = response(settings)
  return (backend: Address, endpoint: Address): readonly Step[] => {
    const host = http_host ?? authority(backend, endpoint, standardPort)
    const request = `${http_method} ${http_path} HTTP/1.1\r\nHost: ${host}\r\n${rest}\r\n`
    return [{ send: Buffer.from(request) }, { expect }, GOODBYE]
  }
}

/** Whom the request is for: the backend as configured, on the port that is dialled. */
function authority(backend: Address, endpoint: Address, standardPort: number): string {
  if (isUnix(backend)) return 'localhost'
  const host = backend.host.includes(':') ? `[${backend.host}]` : backend.host
  return isUnix(endpoint) || endpoint.port === standardPort ? host : `${host}:${endpoint.port}`
}

/** The first answer that is not preliminary (RFC 9110, 15.2). */
function response(settings: HttpSettings): Expect {
  const ranges = rangesOf(settings.http_status)!
  const missing = missingIn(settings)
  return (came, over) => {
    const begin = came.toString('latin1', 0, 5)
    if (!'HTTP/'.startsWith(begin)) throw new Error(`answered ${shown(came)}, expected HTTP`)
    const end = came.indexOf('\r\n\r\n')
    if (end < 0) return undefined
    const head = came.toString('latin1', 0, end)
    const status = Number(/^HTTP\/1\.\d (\d{3})/.exec(head)?.[1])
    if (Number.isNaN(status)) throw new Error(`answered ${shown(came)}, expected HTTP/1.1`)
    if (status < 200 && status !== 101) return { used: end + 4, said: '', again: true }
    if (!ranges.some(([from, to]) => status >= from && status <= to))
      throw new Error(`status ${status}, expected ${settings.http_status}`)
    const heard = { used: came.length, said: `status ${status}` }
    if (!missing) return heard
    const body = bodyOf(head, came.subarray(end + 4), over !== undefined)
    const lack = body && missing(body)
    if (lack) throw new Error(`status ${status}, but its body ${lack}`)
    return body && heard
  }
}

/** What a body lacks, in words; undefined when any body will do. */
function missingIn(settings: HttpSettings): ((body: Buffer) => string | undefined) | undefined {
  const { http_body: part, http_body_regexp: regexp } = settings
  if (part !== undefined) return (body) => (body.includes(part) ? undefined : `lacks ${quoted(part)}`)
  const pattern = regexp === undefined ? undefined : compiled(regexp)!
  return (
    pattern &&
    ((body) => (pattern.matcher(body.toString()).find() ? undefined : `does not match ${quoted(regexp!)}`))
  )
}

/** The body, its framing taken off, when all of it has come that will; undefined before. */
function bodyOf(head: string, rest: Buffer, over: boolean): Buffer | undefined {
  if (/\ntransfer-encoding:[^\n]*\bchunked\b/i.test(head))
    return over || rest.subarray(-4).equals(BLANK_LINE) ? unchunked(rest, over) : undefined
  const length = /\ncontent-length:[ \t]*(\d+)/i.exec(head)?.[1]
  if (length !== undefined && rest.length >= Number(length)) return rest.subarray(0, Number(length))
  return over ? rest : undefined
}

const BLANK_LINE = Buffer.from('\r\n\r\n')

/** The chunks of RFC 9112, 7.1; undefined while more are to come and it is not `over`. */
function unchunked(rest: Buffer, over: boolean): Buffer | undefined {
  const chunks: Buffer[] = []
  for (let at = 0; ;) {
    const end = rest.indexOf('\r\n', at)
    if (end < 0 && !over) return undefined
    const size = end < 0 ? 0 : parseInt(rest.toString('latin1', at, end), 16)
    if (!(size > 0)) return Buffer.concat(chunks)
    chunks.push(rest.subarray(end + 2, end + 2 + size))
    at = end + 2 + size + 2
  }
}

type Range = readonly [from: number, to: number]

/** The ranges of a text such as `200-299, 3xx, 404`; undefined when it is something else. */
function rangesOf(text: string): readonly Range[] | undefined {
  const ranges = text.split(',').map((each): Range | undefined => {
    const [, hundred, from, to] = /^\s*(?:([1-5])xx|([1-5]\d\d)(?:-([1-5]\d\d))?)\s*$/i.exec(each) ?? []
    if (hundred !== undefined) return [Number(hundred) * 100, Number(hundred) * 100 + 99]
    return from === undefined ? undefined : [Number(from), Number(to ?? from)]
  })
  return ranges.every((each) => each !== undefined && each[0] <= each[1]) ? (ranges as Range[]) : undefined
}
