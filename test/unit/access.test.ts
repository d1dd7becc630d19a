// Who may connect: rules as lines, the first that matches wins.

import t from 'tap'
import fc from 'fast-check'
import { z } from 'zod'
import { compileAccess, readRule, readRules } from '../../src/access/rules.ts'
import type { Rule, Verdict } from '../../src/access/boundaries.ts'
import { accessSettings } from '../../src/access/settings.ts'
import { ConfigError } from '../../src/core/errors.ts'
import { ipBytes, mappedBytes } from '../../src/core/ip.ts'

function verdicts(otherwise: Verdict, rules: string[], clients: string[]): string {
  const access = compileAccess({ default: otherwise, rules })
  return clients.map((ip) => (access.allows(ipBytes(ip)) ? 'allow' : 'deny')).join(' ')
}

t.test('the first rule that matches wins, and the default where none does', (t) => {
  const rules = ['allow 10.1.2.3', 'deny 10.1.0.0/16', 'allow 10.0.0.0/8', 'deny 10.2.0.0/16']
  const clients = ['10.1.2.3', '10.1.2.4', '10.2.0.1', '10.255.255.255', '11.0.0.0', '9.255.255.255']
  t.equal(verdicts('deny', rules, clients), 'allow deny allow allow deny deny')
  t.equal(verdicts('allow', rules, clients), 'allow deny allow allow allow allow')
  t.end()
})

t.test('without rules everyone has the default', (t) => {
  t.equal(verdicts('allow', [], ['1.2.3.4', '::1']), 'allow allow')
  t.equal(verdicts('deny', [], ['1.2.3.4', '::1']), 'deny deny')
  t.end()
})

t.test('the table says where the verdict turns, and what it is at first', (t) => {
  const { ipv4, ipv6 } = compileAccess({
    default: 'deny',
    rules: ['allow 10.1.0.0/16', 'allow ::ffff:10.3.0.0/112', 'allow 2001:db8::/32'],
  })
  const hex = ({ words }: { words: Uint32Array }) => [...words].map((word) => word.toString(16))
  t.same(hex(ipv4), ['0', 'a010000', 'a020000', 'a030000', 'a040000'])
  const second = ['20010db8', '0', '0', '0'].map((word) => word.replace(/^0+(?=.)/, ''))
  t.same(hex(ipv6), ['0', '0', '0', '0', ...second, '20010db9', '0', '0', '0'])
  t.same([ipv4.firstAllows, ipv6.firstAllows], [false, false])
  t.end()
})

t.test('a network may be written with host bits set', (t) => {
  t.equal(
    verdicts('deny', ['allow 99.99.99.1/24'], ['99.99.99.0', '99.99.99.255', '99.99.98.255']),
    'allow allow deny',
  )
  t.equal(verdicts('deny', ['allow 2001:db8::7/32'], ['2001:db8:ffff::', '2001:db9::']), 'allow deny')
  t.end()
})

t.test('networks reach to the ends of the address space', (t) => {
  const ends = ['0.0.0.0', '255.255.255.255', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff']
  t.equal(verdicts('deny', ['allow 0.0.0.0/0'], ends), 'allow allow deny deny')
  t.equal(verdicts('deny', ['allow ::/0'], ends), 'deny deny allow allow', 'families are apart')
  t.equal(
    verdicts('allow', ['deny 255.255.255.255', 'deny ::', 'deny 0.0.0.0/1'], ends),
    'deny deny deny allow',
  )
  t.end()
})

t.test('IPv4-mapped clients and rules are IPv4', (t) => {
  const access = compileAccess({
    default: 'deny',
    rules: ['allow 10.0.0.0/8', 'allow ::ffff:192.0.2.0/120', 'allow ::ffff:c633:6401'],
  })
  for (const ip of ['10.9.8.7', '192.0.2.77', '198.51.100.1']) {
    t.ok(access.allows(ipBytes(ip)), ip)
    t.ok(access.allows(mappedBytes(ipBytes(ip))), `${ip}, mapped`)
  }
  t.notOk(access.allows(mappedBytes(ipBytes('192.0.3.1'))))
  t.end()
})

t.test('a client without an address, on a unix listener, is always allowed', (t) => {
  t.ok(compileAccess({ default: 'deny', rules: ['deny 0.0.0.0/0', 'deny ::/0'] }).allows(new Uint8Array(0)))
  t.end()
})

t.test('blanks around and between are no matter', (t) => {
  t.equal(
    verdicts('deny', ['  allow \t 10.0.0.1  ', 'allow   10.0.0.2/32 '], ['10.0.0.1', '10.0.0.2', '10.0.0.3']),
    'allow allow deny',
  )
  t.end()
})

t.test('what is no rule is refused with what was expected', (t) => {
  const shapes = [
    '',
    'allow',
    '10.0.0.1',
    'Allow 10.0.0.1',
    'permit 10.0.0.1',
    'allow 10.0.0.1 10.0.0.2',
    'allow10.0.0.1',
  ]
  const targets = [
    '127.1', '0x7f.1', '0x7f.0.0.1', '010.0.0.1', '1.2.3.4.5', '1.2.3', '256.0.0.1', '2130706433', 'localhost', '10.0.0.0/33', '10.0.0.0/-1',
    '10.0.0.0/', '/8', '10.0.0.0/8/8', '10.0.0.0/8.0', '10.0.0.0/255.0.0.0', '::1/129', 'fe80::1%eth0', ':::', '[::1]', '1:2:3:4:5:6:7:8:9', '::ffff:1.2.3', '*',
  ] // prettier-ignore
  for (const line of shapes)
    t.equal(readRule(line), 'allow or deny and a network, such as "allow 10.0.0.0/8"', line)
  for (const target of targets)
    t.equal(readRule(`deny ${target}`), 'an IP address or CIDR after deny', target)
  for (const target of [
    '::',
    '::1/0',
    '1:2:3:4:5:6:1.2.3.4',
    '::1.2.3.4/96',
    '1::8',
    'ABCD::EF/16',
    '0.0.0.0/0',
  ]) {
    t.type(readRule(`allow ${target}`), 'object', target)
  }
  t.end()
})

t.test('every bad rule is reported at its index', (t) => {
  const lines = ['allow 10.0.0.0/8', 'allow 127.1', 'deny ::1', 'refuse "x"']
  const problems = [
    { path: 'rules[1]', message: 'expected an IP address or CIDR after allow, got "allow 127.1"' },
    {
      path: 'rules[3]',
      message: 'expected allow or deny and a network, such as "allow 10.0.0.0/8", got "refuse \\"x\\""',
    },
  ]
  t.same(readRules(lines).problems, problems)
  t.equal(readRules(lines).rules.length, 2)
  t.throws(() => compileAccess({ default: 'allow', rules: lines }), new ConfigError('access', problems))
  t.end()
})

t.test('the access section has defaults, and each bad rule its own path', (t) => {
  const schema = z.object(accessSettings)
  t.same(schema.parse({}), { default: 'allow', rules: [] })
  t.same(schema.parse({ default: 'deny', rules: [' allow ::1'] }), { default: 'deny', rules: [' allow ::1'] })
  const issues = schema.safeParse({ default: 'maybe', rules: ['deny 1.2.3.4', 'deny 1.2.3', 7, 'deny'] })
    .error!.issues
  t.same(
    issues.map(({ path, message }) => [path.join('.'), message]),
    [
      ['default', 'one of allow, deny'],
      ['rules.1', 'an IP address or CIDR after deny'],
      ['rules.2', 'a string'],
      ['rules.3', 'allow or deny and a network, such as "allow 10.0.0.0/8"'],
    ],
  )
  t.end()
})

t.test('the compiled table says what reading the rules in turn says', (t) => {
  // Few bits in use, so that networks meet, nest and repeat.
  const octet = fc.constantFrom(0, 1, 128, 255)
  const ipv4 = fc.array(octet, { minLength: 4, maxLength: 4 }).map((bytes) => Uint8Array.from(bytes))
  const ipv6 = fc.array(octet, { minLength: 4, maxLength: 4 }).map((four) => {
    const bytes = new Uint8Array(16).fill(four[3]!)
    bytes.set(four)
    return bytes
  })
  const rule = fc.oneof(
    fc.record({ verdict: fc.constantFrom<Verdict>('allow', 'deny'), network: ipv4, prefix: fc.nat(32) }),
    fc.record({ verdict: fc.constantFrom<Verdict>('allow', 'deny'), network: ipv6, prefix: fc.nat(128) }),
  )
  const clients = fc.array(fc.oneof(ipv4, ipv6), { minLength: 20, maxLength: 20 })
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 30 }), fc.boolean(), clients, (rules, otherwise, clients) => {
      const access = compileAccess({ default: otherwise ? 'allow' : 'deny', rules: rules.map(lineOf) })
      return clients.every((client) => {
        const first = rules.find((each) => matches(each, client))
        return access.allows(client) === (first ? first.verdict === 'allow' : otherwise)
      })
    }),
    { numRuns: 500, seed: 1 },
  )
  t.end()
})

function lineOf({ verdict, network, prefix }: Rule): string {
  if (network.length === 4) return `${verdict} ${network.join('.')}/${prefix}`
  const words = Array.from({ length: 8 }, (_, i) =>
    ((network[2 * i]! << 8) | network[2 * i + 1]!).toString(16),
  )
  return `${verdict} ${words.join(':')}/${prefix}`
}

function matches({ network, prefix }: Rule, client: Uint8Array): boolean {
  const bits = (bytes: Uint8Array) =>
    Array.from(bytes, (byte) => byte.toString(2).padStart(8, '0'))
      .join('')
      .slice(0, prefix)
  return client.length === network.length && bits(client) === bits(network)
}

t.test('100,000 rules of both families load soon', (t) => {
  const rules = Array.from({ length: 100_000 }, (_, i) =>
    i % 2
      ? `allow 10.${(i >> 12) & 255}.${(i >> 4) & 255}.${i & 15}`
      : `deny 2001:db8:${(i >> 8).toString(16)}:${i & 255}::/64`,
  )
  const began = process.cpuUsage()
  const access = compileAccess({ default: 'deny', rules })
  const { user, system } = process.cpuUsage(began)
  t.ok(user + system < 20e6, `${(user + system) / 1000} ms of CPU`)
  t.ok(access.allows(ipBytes('10.0.0.1')))
  t.notOk(access.allows(ipBytes('2001:db8::1')))
  t.end()
})
