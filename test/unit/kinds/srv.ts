import { RECURSION_DESIRED, encode } from 'dns-packet'
import type { Answer as Entry, Packet } from 'dns-packet'
import t from 'tap'
import type { Test } from 'tap'
import { z } from 'zod'
import { addressText } from '../../../src/core/address.ts'
import { realClock } from '../../../src/core/clock.ts'
import type { Clock } from '../../../src/core/clock.ts'
import type { Answer, Discovery } from '../../../src/discovery/discovery.ts'
import { srv as kind } from '../../../src/discovery/srv.ts'
import { encodeQuestion, isDnsName, isReplyTo, readReply } from '../../../src/dns/message.ts'
import { resolve } from '../../../src/dns/resolve.ts'
import { dnsServers, parseDnsServer } from '../../../src/dns/servers.ts'
import { FakeClock } from '../../support/clock.ts'
import { a, nameserver, soa, srvRecord } from '../../support/nameserver.ts'
import type { Asked, Told } from '../../support/nameserver.ts'
import { freePort } from '../../support/spawned.ts'
import { until } from '../../support/until.ts'

const never = () => new AbortController().signal
const NAME = '_web._tcp.test'
const ONE = srvRecord('a.test', 80)
const NONE: Told = { authorities: [soa(5)] }

function created(section: object, clock: Clock = realClock): Discovery {
  const settings = z.object(kind.settings).parse({ srv_lookup_pattern: '_web._tcp.test.', ...section })
  return kind.create(settings, { clock, transport: 'tcp' })
}

/** The kind against a server that answers so. */
async function srv(t: Test, tell: (asked: Asked) => Told, section: object = {}, clock: Clock = realClock) {
  const server = await nameserver(t, tell)
  return { server, discovery: created({ srv_lookup_server: server.address, ...section }, clock) }
}

async function answered(t: Test, tell: (asked: Asked) => Told, section: object = {}): Promise<Answer> {
  const { discovery } = await srv(t, tell, section)
  return discovery.ask(never())
}

const texts = ({ backends }: Answer) => backends.map(({ address }) => addressText(address))

/** Tells records by type and name; others are none. */
function zone(records: readonly Entry[]): (asked: Asked) => Told {
  return ({ name, type }) => {
    const answers = records.filter((each) => each.name === name && each.type === type)
    return answers.length > 0 ? { answers } : NONE
  }
}

t.test('a question asks for recursion and 1232 bytes, and not for DNSSEC', async (t) => {
  const { server, discovery } = await srv(t, () => NONE)
  await discovery.ask(never())
  await discovery.ask(never())
  const { query } = server.asked[0]!
  t.match(query, {
    flags: RECURSION_DESIRED,
    additionals: [{ type: 'OPT', udpPayloadSize: 1232, flag_do: false }],
  })
  t.not(query.id, server.asked[1]!.query.id, 'ids differ')
})

t.test('a server that knows no EDNS is asked without it', async (t) => {
  const { server, discovery } = await srv(t, ({ query }) =>
    query.additionals!.length > 0 ? { flags: 1 } : { answers: [ONE], additionals: [a('a.test', '10.0.0.1')] },
  )
  t.same(texts(await discovery.ask(never())), ['10.0.0.1:80'])
  t.equal(server.asked.length, 2)
})

t.test('priority, weight and name are the record’s, and a weight of 0 stays', async (t) => {
  const answers = [
    srvRecord('B.Test', 81, { weight: 0, priority: 7 }),
    srvRecord('a.test', 80, { weight: 9 }),
  ]
  const additionals = [a('a.test', '10.0.0.1'), a('b.test', '10.0.0.2')]
  const { backends } = await answered(t, () => ({ answers, additionals }))
  t.match(backends, [
    { address: { host: '10.0.0.1', port: 80 }, priority: 1, weight: 9, sni: 'a.test' },
    { address: { host: '10.0.0.2', port: 81 }, priority: 7, weight: 0, sni: 'b.test' },
  ])
})

t.test('names are compared without regard to case, and other records are ignored', async (t) => {
  const signature: Entry = {
    type: 'RRSIG',
    name: NAME,
    ttl: 1,
    data: {
      typeCovered: 'SRV',
      algorithm: 8,
      labels: 3,
      originalTTL: 30,
      expiration: 1,
      inception: 1,
      keyTag: 1,
      signersName: 'test',
      signature: Buffer.alloc(64),
    },
  }
  const shouting = { ...ONE, name: '_WEB._tcp.TEST' }
  const other = { ...srvRecord('c.test', 83), name: '_other._tcp.test' }
  const { backends, freshForMs } = await answered(t, () => ({
    answers: [signature, shouting, other],
    additionals: [a('A.TEST', '10.0.0.1'), a('c.test', '10.0.0.3')],
  }))
  t.match(backends, [{ identity: '10.0.0.1:80 sni=a.test' }])
  t.equal(backends.length, 1)
  t.ok(freshForMs! > 29_000, 'the TTL of what is not used does not count')
})

t.test(
  'a target has a backend for every IPv4 address, for those of IPv6 only where there is none',
  async (t) => {
    const aaaa = (name: string, data: string): Entry => ({ type: 'AAAA', name, ttl: 60, data })
    const both = [a('a.test', '10.0.0.2'), aaaa('a.test', 'fd00::1'), a('a.test', '10.0.0.1')]
    const six = [aaaa('b.test', 'fd00::2')]
    const answers = [ONE, srvRecord('b.test', 81)]
    const expected = ['10.0.0.1:80', '10.0.0.2:80', '[fd00::2]:81']
    t.same(texts(await answered(t, () => ({ answers, additionals: [...both, ...six] }))).sort(), expected)
    t.same(texts(await answered(t, zone([...answers, ...both, ...six]))).sort(), expected)
  },
)

t.test('of a target with a thousand addresses a few are used', async (t) => {
  const additionals = Array.from({ length: 1000 }, (_, i) => a('a.test', `10.0.${i >> 8}.${i & 255}`))
  const told = { answers: [ONE], additionals }
  const answer = await answered(t, () => told, { srv_dns_protocol: 'tcp' })
  t.equal(answer.backends.length, 16)
  t.same(answer.rejected, ['target "a.test": has 1000 addresses, of which 16 are used'])
})

t.test('the same backend twice is one: that with the better priority, then the greater weight', async (t) => {
  const answers = [
    srvRecord('a.test', 80, { priority: 2, weight: 9 }),
    srvRecord('a.test', 80, { priority: 1, weight: 3 }),
    srvRecord('a.test', 80, { priority: 1, weight: 4 }),
  ]
  const { backends } = await answered(t, () => ({ answers, additionals: [a('a.test', '10.0.0.1')] }))
  t.match(backends, [{ priority: 1, weight: 4 }])
  t.equal(backends.length, 1)
})

t.test('the target "." says that there is no such service', async (t) => {
  const { backends, rejected } = await answered(t, () => ({ answers: [srvRecord('.', 0)] }))
  t.same([backends, rejected], [[], []])
})

t.test('TXT records of a target that came along set what SRV has no field for', async (t) => {
  const txt: Entry = {
    type: 'TXT',
    name: 'a.test',
    ttl: 5,
    data: ['fairlead.max_connections=5', 'fairlead-drain=true', 'fairlead.weight=many', 'rack=7'],
  }
  const answer = await answered(t, () => ({ answers: [ONE], additionals: [a('a.test', '10.0.0.1'), txt] }))
  t.match(answer.backends, [{ maxConnections: 5, drain: true, weight: 1, sni: 'a.test' }])
  t.match(answer.rejected, [/^target "a\.test": fairlead\.weight: expected a whole number.*, got "many"$/])
})

t.test('aliases are followed, in one answer and over several', async (t) => {
  const alias = (name: string, data: string, ttl = 60): Entry => ({ type: 'CNAME', name, data, ttl })
  const at = (name: string) => ({ ...ONE, name })
  const additionals = [a('a.test', '10.0.0.1')]
  const within = [alias(NAME, 'X.test'), alias('x.test', 'y.test', 3), at('y.test')]
  const inside = await answered(t, () => ({ answers: within, additionals }))
  t.same(texts(inside), ['10.0.0.1:80'])
  t.ok(inside.freshForMs! <= 3000, 'the TTL of an alias counts')
  const across = ({ name }: Asked): Told =>
    name === 'x.test' ? { answers: [at(name)], additionals } : { answers: [alias(name, 'x.test')] }
  t.same(texts(await answered(t, across)), ['10.0.0.1:80'])
  const target = zone([ONE, alias('a.test', 'b.test')])
  const named = ({ type, ...asked }: Asked): Told =>
    type === 'A'
      ? { answers: [alias('a.test', 'b.test', 2), a('b.test', '10.0.0.9')] }
      : target({ type, ...asked })
  const looked = await answered(t, named)
  t.same(texts(looked), ['10.0.0.9:80'])
  t.ok(looked.freshForMs! <= 2000)
})

t.test('an alias that leads nowhere is an error, and one to a name without records is none', async (t) => {
  const alias = (name: string, data: string): Entry => ({ type: 'CNAME', name, data, ttl: 60 })
  const circle = [alias(NAME, 'x.test'), alias('x.test', NAME)]
  await t.rejects(
    answered(t, () => ({ answers: circle })),
    { message: /an alias of an alias, 8 times/ },
  )
  let turn = 0
  const endless = ({ name }: Asked): Told => ({ answers: [alias(name, `x${turn++}.test`)] })
  await t.rejects(answered(t, endless), { message: /an alias of an alias, 8 times/ })
  t.equal(turn, 9)
  const none = { flags: 3, answers: [alias(NAME, 'x.test')], authorities: [soa(5)] }
  t.same(texts(await answered(t, () => none)), [])
})

t.test(
  'an answer is good for the smallest TTL, one of nobody for what the zone says, at most a minute',
  async (t) => {
    const fresh = async (told: Told) => Math.round((await answered(t, () => told)).freshForMs! / 100) / 10
    t.equal(await fresh({ answers: [ONE], additionals: [a('a.test', '10.0.0.1', 4)] }), 4)
    t.equal(
      await fresh({ answers: [{ ...ONE, ttl: 2 } as Entry], additionals: [a('a.test', '10.0.0.1')] }),
      2,
    )
    t.equal(
      await fresh({ answers: [{ ...ONE, ttl: 2 ** 31 } as Entry], additionals: [a('a.test', '1.1.1.1')] }),
      0,
    )
    t.equal(await fresh({ flags: 3, authorities: [soa(7)] }), 7)
    t.equal(await fresh({ authorities: [soa(86_400)] }), 60)
    t.equal(await fresh({ flags: 3 }), 5)
  },
)

t.test('datagrams that do not answer the question are waited through', async (t) => {
  const good: Packet = { answers: [ONE], additionals: [a('a.test', '10.0.0.1')] }
  const asked = { type: 'SRV', name: NAME } as const
  const sent = await encodeQuestion(asked)
  const id = sent.readUInt16BE(0)
  const reply = (rest: Packet) => encode({ type: 'response', id, questions: [asked], ...good, ...rest })
  t.ok(isReplyTo(sent, reply({})))
  t.ok(isReplyTo(sent, reply({ questions: [{ type: 'SRV', name: '_WEB._tcp.test' }] })))
  t.ok(isReplyTo(sent, reply({ questions: [], flags: 1 })), 'a server that could not read it')
  t.notOk(isReplyTo(sent, reply({ id: id ^ 1 })))
  t.notOk(isReplyTo(sent, reply({ type: 'query' })))
  t.notOk(isReplyTo(sent, reply({ questions: [] })))
  t.notOk(isReplyTo(sent, reply({ questions: [{ type: 'SRV', name: '_wob._tcp.test' }] })))
  t.notOk(isReplyTo(sent, reply({ questions: [{ type: 'A', name: NAME }] })))
  t.notOk(isReplyTo(sent, reply({ questions: [asked, asked] })))
  t.notOk(isReplyTo(sent, Buffer.alloc(11)))

  const clock = new FakeClock()
  const forged = [Buffer.alloc(5), reply({}), Buffer.alloc(40, 0xff)]
  const { server, discovery } = await srv(t, () => forged.shift() ?? good, {}, clock)
  const answer = discovery.ask(never())
  for (const count of [1, 2, 3]) {
    await until(() => server.asked.length === count)
    await clock.advance(1000)
  }
  t.same(texts(await answer), ['10.0.0.1:80'])
  t.equal(server.asked.length, 4)
})

t.test('a question that gets lost is asked again every second; who stays silent is named', async (t) => {
  const clock = new FakeClock()
  let silent = true
  const told = { answers: [ONE], additionals: [a('a.test', '10.0.0.1')] }
  const { server, discovery } = await srv(t, () => (silent ? undefined : told), {}, clock)
  const first = discovery.ask(never())
  await until(() => server.asked.length === 1)
  await clock.advance(1000)
  await until(() => server.asked.length === 2)
  t.equal(server.asked[0]!.query.id, server.asked[1]!.query.id, 'an answer to either will do')
  silent = false
  await clock.advance(1000)
  t.same(texts(await first), ['10.0.0.1:80'])
  t.equal(clock.pending, 0)
  silent = true
  const second = discovery.ask(never())
  await until(() => server.asked.length === 4)
  const rejected = t.rejects(second, {
    message: `SRV ${NAME}: ${server.address} over udp: no answer within 4.5s`,
  })
  await clock.advance(4500)
  await rejected
  t.equal(clock.pending, 0)
})

t.test('a truncated answer is fetched over TCP, and tcp asks nothing over UDP', async (t) => {
  const told = { answers: [ONE], additionals: [a('a.test', '10.0.0.1')] }
  const tell = ({ protocol }: Asked): Told => (protocol === 'udp' ? { flags: 1 << 9 } : told)
  for (const [srv_dns_protocol, asked] of [
    ['udp', ['udp', 'tcp']],
    ['tcp', ['tcp']],
  ] as const) {
    const { server, discovery } = await srv(t, tell, { srv_dns_protocol })
    t.same(texts(await discovery.ask(never())), ['10.0.0.1:80'])
    t.same(
      server.asked.map(({ protocol }) => protocol),
      asked,
    )
    await until(() => server.sockets.size === 0)
  }
})

t.test(
  'addresses that did not come along are asked for, sixteen at a time, and not again while good',
  async (t) => {
    const many = Array.from({ length: 100 }, (_, i) => srvRecord(`h${i}.test`, 80))
    const records = many.map((_, i) => a(`h${i}.test`, `10.0.0.${i}`))
    let held: string[] = []
    let most = 0
    const tell = zone([...many, ...records])
    const { server, discovery } = await srv(
      t,
      (asked) => {
        if (asked.type === 'A') held.push(asked.name)
        most = Math.max(most, process.getActiveResourcesInfo().filter((each) => each === 'UDPWrap').length)
        return asked.type === 'SRV' ? { ...(tell(asked) as Packet) } : tell(asked)
      },
      { srv_dns_protocol: 'udp' },
    )
    t.equal((await discovery.ask(never())).backends.length, 100)
    t.equal(held.length, 100)
    t.ok(most <= 17, `${most} sockets, with the server’s`)
    held = []
    t.equal((await discovery.ask(never())).backends.length, 100)
    t.same(held, [])
    t.ok(server.asked.length > 101)
  },
)

t.test('a target that cannot be asked for keeps its addresses; one never known is named', async (t) => {
  const clock = new FakeClock()
  const answers = [ONE, srvRecord('b.test', 81)]
  let failing = false
  const { discovery, server } = await srv(
    t,
    ({ type, name }) => {
      if (type === 'SRV') return { answers }
      if (name === 'b.test' || failing) return { flags: name === 'b.test' ? 5 : 2 }
      return { answers: [a('a.test', '10.0.0.1')] }
    },
    {},
    clock,
  )
  const first = await discovery.ask(never())
  t.same(texts(first), ['10.0.0.1:80'])
  t.same(first.rejected, [`target "b.test": A b.test: ${server.address} answered REFUSED`])
  t.equal(first.freshForMs, 5000, 'what failed is asked for again')
  failing = true
  await clock.advance(60_000)
  const second = await discovery.ask(never())
  t.same(texts(second), ['10.0.0.1:80'])
  t.match(second.rejected, [/"a\.test": .* answered SERVFAIL, its last addresses stay$/, /"b\.test"/])
})

t.test('a name that no host has is not asked for', async (t) => {
  const { rejected } = await answered(t, zone([srvRecord('a b.test', 80)]))
  t.same(rejected, ['target "a b.test": expected a DNS name'])
  for (const name of ['a', 'a.b.', '_x._tcp.c', 'a'.repeat(63), `${'a.'.repeat(126)}a`])
    t.ok(isDnsName(name), name)
  for (const name of ['', '.', 'a..b', '.a', 'a b', 'é.test', 'a'.repeat(64), 'a.'.repeat(128)])
    t.notOk(isDnsName(name), name)
})

t.test('servers are asked in turn until one can tell, and who answered is asked for the rest', async (t) => {
  const tell = zone([ONE, a('a.test', '10.0.0.1')])
  const sick = await nameserver(t, () => ({ flags: 2 }))
  const well = await nameserver(t, tell)
  const servers = [{ host: '127.0.0.1', port: await freePort() }, sick, well].map(({ port }) => ({
    host: '127.0.0.1',
    port,
  }))
  const question = { name: NAME, type: 'SRV' } as const
  const manner = { protocol: 'udp', clock: realClock } as const
  t.match(await resolve(servers, question, manner, never()), { server: { port: well.port } })
  await t.rejects(resolve(servers.slice(0, 2), question, manner, never()), {
    message: new RegExp(`^SRV ${NAME}: 127.* over udp: ECONNREFUSED; ${sick.address} answered SERVFAIL$`),
  })
})

t.test(
  'a server is an address or a name, with or without a port; without one the system’s are asked',
  async (t) => {
    const parsed = (text: string) => {
      const address = parseDnsServer(text)
      return address && addressText(address)
    }
    t.same(['10.0.0.1', 'ns.test', '::1', '[::1]', '[::1]:5353', 'ns.test:5353'].map(parsed), [
      '10.0.0.1:53',
      'ns.test:53',
      '[::1]:53',
      '[::1]:53',
      '[::1]:5353',
      'ns.test:5353',
    ])
    for (const wrong of ['', ':53', 'a:b:c', 'a:0', 'a:*', 'unix:/run/dns', '[x]:53', 'a b'])
      t.equal(parsed(wrong), undefined, wrong)
    const told = { answers: [ONE], additionals: [a('a.test', '10.0.0.1')] }
    const { server, discovery } = await srv(t, () => told)
    t.equal((await discovery.ask(never())).backends.length, 1)
    const named = created({ srv_lookup_server: `localhost:${server.port}` })
    t.same(texts(await named.ask(never())), ['10.0.0.1:80'])
    const nowhere = created({ srv_lookup_server: '255.255.255.255' })
    await t.rejects(nowhere.ask(never()), { message: /^SRV .*255:53 over udp: E[A-Z]+$/ })
    for (const { host, port } of await dnsServers(undefined, realClock)())
      t.match([host, port], [/[.:]/, Number])
  },
)

t.test('messages that mean harm are read or refused, and do not hold up the others', async (t) => {
  const clock = new FakeClock(7)
  const whole = encode({
    type: 'response',
    questions: [{ type: 'SRV', name: NAME }],
    answers: [ONE, { type: 'CNAME', name: NAME, ttl: 1, data: 'x.test' }],
    authorities: [soa(5)],
    additionals: [a('a.test', '10.0.0.1'), { type: 'TXT', name: 'a.test', ttl: 1, data: ['k=v'] }],
  })
  let read = 0
  for (let i = 0; i < 5_000; i++) {
    const bytes = Buffer.from(whole.subarray(0, i % 3 ? whole.length : 12 + clock.random() * whole.length))
    for (let j = 0; j <= i % 5; j++)
      bytes[Math.floor(clock.random() * bytes.length)] = Math.floor(clock.random() * 256)
    await readReply(bytes).then(
      () => read++,
      (error: unknown) => error instanceof Error || t.fail('an error'),
    )
  }
  t.ok(read > 250 && read < 4_750, `${read} of 5,000 could be read`)

  // Names that point back 8,000 times, 3,000 of them.
  let turns = 0
  const beat = setInterval(() => turns++, 1)
  const { answers } = await readReply(pointers())
  clearInterval(beat)
  t.equal(answers.length, 3000)
  t.ok(turns > 10, `the event loop turned ${turns} times meanwhile`)
})

function pointers(): Buffer {
  const bytes = Buffer.alloc(65_535)
  bytes.writeUInt16BE(3001, 6)
  let at = 12
  const head = (type: number, size: number) => {
    bytes.writeUInt16BE(type, at)
    bytes.writeUInt16BE(1, at + 2)
    bytes.writeUInt16BE(size, at + 8)
    at += 10
  }
  at++
  head(10, 16_000)
  let to = 12
  for (let i = 0; i < 8000; i++, at += 2) {
    bytes.writeUInt16BE(0xc000 | to, at)
    to = at
  }
  for (let i = 0; i < 3000; i++) {
    bytes.writeUInt16BE(0xc000 | to, at)
    at += 2
    head(1, 4)
    at += 4
  }
  return bytes.subarray(0, at)
}
