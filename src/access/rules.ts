// Who may connect: "allow 10.0.0.0/8" lines, compiled once, first match wins.
//
//   rules         allow 10.1.0.0/16   deny 10.0.0.0/8   default allow
//   boundaries    0.0.0.0  10.0.0.0  10.1.0.0  10.2.0.0  11.0.0.0
//   verdicts      allow    deny      allow     deny      allow          every boundary turns the verdict
//
// A look-up is a binary search among the boundaries of the client's family.

import { isIPv4, isIPv6 } from 'node:net'
import { ConfigError } from '../core/errors.ts'
import type { Problem } from '../core/errors.ts'
import { ipBytes } from '../core/ip.ts'
import { Boundaries } from './boundaries.ts'
import type { Rule, Verdict } from './boundaries.ts'

export interface Access {
  /** What is searched, for those who search it themselves. */
  readonly ipv4: Boundaries
  readonly ipv6: Boundaries
  /** Whether a client with these 4 or 16 address bytes may connect; one without, on a unix listener, always may. */
  allows(bytes: Uint8Array): boolean
}

/** Compiles rules. Throws `ConfigError` with every rule that is none. */
export function compileAccess(settings: { default: Verdict; rules: readonly string[] }): Access {
  const { rules, problems } = readRules(settings.rules)
  if (problems.length > 0) throw new ConfigError('access', problems)
  const ipv4 = new Boundaries(4, settings.default, rules)
  const ipv6 = new Boundaries(16, settings.default, rules)
  return {
    ipv4,
    ipv6,
    allows(bytes) {
      if (bytes.length === 4) return ipv4.allows(bytes, 0)
      if (bytes.length !== 16) return true
      return isMapped(bytes) ? ipv4.allows(bytes, 12) : ipv6.allows(bytes, 0)
    },
  }
}

/** Reads every rule; the bad ones are problems at `rules[index]`. */
export function readRules(lines: readonly string[]): { rules: Rule[]; problems: Problem[] } {
  const rules: Rule[] = []
  const problems: Problem[] = []
  lines.forEach((line, index) => {
    const rule = readRule(line)
    if (typeof rule !== 'string') return rules.push(rule)
    problems.push({ path: `rules[${index}]`, message: `expected ${rule}, got ${JSON.stringify(line)}` })
  })
  return { rules, problems }
}

/** The rule in a line such as `deny 192.168.0.0/16`, or what was expected of it. */
export function readRule(line: string): Rule | string {
  const words = /^\s*(allow|deny)\s+(\S+)\s*$/.exec(line)
  if (!words) return 'allow or deny and a network, such as "allow 10.0.0.0/8"'
  const network = readNetwork(words[2]!)
  if (!network) return `an IP address or CIDR after ${words[1]}`
  return { verdict: words[1] as Verdict, ...network }
}

/** IPv4-mapped networks (RFC 4291, 2.5.5.2) are IPv4 ones, as their clients are. */
function readNetwork(text: string): Omit<Rule, 'verdict'> | undefined {
  const [address, length, more] = text.split('/')
  if (more !== undefined || !isIp(address!)) return undefined
  const network = ipBytes(address!)
  const bits = 8 * network.length
  const prefix = length === undefined ? bits : readPrefix(length, bits)
  if (prefix === undefined) return undefined
  if (prefix < 96 || !isMapped(network)) return { network, prefix }
  return { network: network.slice(12), prefix: prefix - 96 }
}

/** Nothing `inet_aton` would guess at (`127.1`, `010.0.0.1`), and no zone (`%eth0`). */
function isIp(text: string): boolean {
  return isIPv4(text) || (isIPv6(text) && !text.includes('%'))
}

function readPrefix(text: string, most: number): number | undefined {
  return /^\d{1,3}$/.test(text) && Number(text) <= most ? Number(text) : undefined
}

function isMapped(bytes: Uint8Array): boolean {
  if (bytes.length !== 16 || bytes[10] !== 0xff || bytes[11] !== 0xff) return false
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false
  return true
}
