// What only routes can show of datagrams: backends that see the address of the client, answers that leave from the
// address asked, ways that are too narrow for a datagram, and hosts that are gone.

import t from 'tap'
import type { Test } from 'tap'
import { addressText } from '../../src/core/address.ts'
import type { HostPort } from '../../src/core/address.ts'
import { hosts } from '../support/hosts.ts'
import type { Hosts, Way } from '../support/hosts.ts'
import { PLANES } from '../support/planes.ts'
import { until } from '../support/until.ts'

const native = PLANES.find(({ name }) => name === 'native')!

const place = (host: string, port: number): HostPort => ({ host, port })

/** The same as text. */
const at = (host: string, port: number) => addressText(place(host, port))

/** The two families: where each host is. */
const FAMILIES = {
  four: {
    client: '10.200.0.2',
    far: '10.203.0.2',
    backend: '10.201.0.2',
    deep: '10.204.0.2',
    front: '10.200.0.1',
    second: '10.200.0.3',
    back: '10.201.0.1',
    nobody: '10.201.0.99',
    beyond: '10.204.0.99',
    hop: '10.205.0.1',
    every: '0.0.0.0',
  },
  six: {
    client: 'fd00:200::2',
    far: 'fd00:203::2',
    backend: 'fd00:201::2',
    deep: 'fd00:204::2',
    front: 'fd00:200::1',
    second: 'fd00:200::3',
    back: 'fd00:201::1',
    nobody: 'fd00:201::99',
    beyond: 'fd00:204::99',
    hop: 'fd00:205::1',
    every: '::',
  },
} as const

/**
 * Answers what comes in by itself; what begins with `G`, a length and a number, with so many datagrams of that length
 * that are handed to the kernel in one piece, and a shorter one.
 */
const PIECES_BACKEND = `
import socket, struct, sys
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(('::', 4100))
print('ready', flush=True)
while True:
    heard, client = server.recvfrom(65536)
    if heard[:1] != b'G':
        server.sendto(heard, client)
        continue
    length, count = struct.unpack('!HH', heard[1:5])
    body = b''.join(struct.pack('!I', i).ljust(length, b'.') for i in range(count)) + struct.pack('!I', count)
    try:
        server.sendmsg([body], [(socket.SOL_UDP, 103, struct.pack('H', length))], 0, client)
    except OSError as error:
        server.sendto(b'no: ' + str(error).encode(), client)
`

/**
 * Hands a row of datagrams to the kernel in one piece (UDP_SEGMENT), and says how many came back as they were; then asks
 * for such a piece. What is lost is sent again.
 */
const PIECES_CLIENT = `
import select, socket, struct, sys
host, port, length, count = sys.argv[1], *map(int, sys.argv[2:])
client = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM)
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
client.connect((host, port))
rows = [struct.pack('!I', i).ljust(length, b'.') for i in range(count)] + [struct.pack('!I', count)]

def rounds(send, wanted):
    for _ in range(20):
        send()
        heard = []
        while len(heard) < len(wanted) and select.select([client], [], [], 0.5)[0]:
            heard.append(client.recv(65536))
        if sorted(heard) == sorted(wanted):
            return len(heard)
        if any(each[:3] == b'no:' for each in heard):
            return heard[0].decode()
    return 'only ' + str(sorted(map(len, heard)))

for i in range(20):
    one = b'one %d' % i
    rounds(lambda: client.send(one), [one])
segment = [(socket.SOL_UDP, 103, struct.pack('H', length))]
there = rounds(lambda: client.sendmsg([b''.join(rows)], segment), rows)
back = rounds(lambda: client.send(b'G' + struct.pack('!HH', length, count)), rows)
print(there, back)
`

type Family = (typeof FAMILIES)[keyof typeof FAMILIES]

/** Settings of a server that brings datagrams to those backends. */
const server = (
  bind: string | readonly string[],
  backends: readonly HostPort[],
  udp: object = {},
  more = {},
) => ({
  protocol: 'udp',
  bind,
  balance: 'roundrobin',
  udp,
  discovery: { kind: 'static', static_list: backends.map(addressText) },
  ...more,
})

/** Runs a test for each family on hosts of its own, or skips it with the reason. */
function onHosts(
  t: Test,
  name: string,
  way: Way,
  test: (t: Test, all: Hosts, of: Family) => Promise<void>,
): void {
  for (const [family, of] of Object.entries(FAMILIES))
    void t.test(`${name}, ${family === 'four' ? 'IPv4' : 'IPv6'}`, async (t) => {
      const all = await hosts(t, way)
      if (typeof all === 'string') return t.plan(0, all)
      await all.on('backend').serve(place(of.every, 4000))
      await all.on('deep').serve(place(of.every, 4000))
      await test(t, all, of)
    })
}

/** Sockets of the balancer that have this port: the lines of /proc/net/udp. */
async function bound(all: Hosts, port: number): Promise<number> {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  const rows = (await all.run('balancer', 'cat', '/proc/net/udp', '/proc/net/udp6')).split('\n')
  return rows.filter((row) => row.trim().split(/\s+/)[1]?.endsWith(`:${hex}`)).length
}

for (const way of ['iif', 'iptables', 'nft'] as const)
  t.test(`backends see the client, by a rule for ${way}`, { skip: native.skip }, async (t) => {
    onHosts(t, 'clients and backends', way, async (t, all, of) => {
      const near = place(of.backend, 4000)
      const deep = place(of.deep, 4000)
      const transparent = true
      await all.balance('native', {
        plain: server(at(of.front, 3000), [near]),
        one: server(at(of.front, 3001), [near], { transparent }),
        both: server(at(of.front, 3002), [near, deep], { transparent, max_requests: 2 }),
        brief: server(at(of.front, 3003), [near], { transparent, max_responses: 1 }),
        shots: server(at(of.front, 3004), [near], { transparent, max_requests: 1 }),
        every: server(':3005', [near], { transparent }),
        moved: server(at(of.front, 3006), [place(of.backend, 4999), near], { transparent }),
        wide: server(at(of.front, 3007), [deep], { transparent }),
      })
      const client = all.on('client')
      const ask = (port: number, from = 0) =>
        client.ask({ to: place(of.front, port), from: place(of.client, from) })
      /** Who answered, and whom they have seen. */
      const saw = async (port: number, from = 0) => {
        const { host, saw } = await ask(port, from)
        return `${host}: ${saw}`
      }

      t.match(await saw(3000, 5000), `backend: ${of.back} `, 'without transparent it is the balancer')
      t.equal(await saw(3001, 5000), `backend: ${of.client} 5000`)
      t.equal(await saw(3001, 5000), `backend: ${of.client} 5000`, 'again')
      t.equal(await saw(3001, 5001), `backend: ${of.client} 5001`, 'another port')
      t.equal(
        (await all.on('far').ask({ to: place(of.front, 3001), from: place(of.far, 5000) })).saw,
        `${of.far} 5000`,
        'another client with the same port',
      )
      const many = Array.from({ length: 50 }, (_, i) => 6000 + i)
      t.same(
        await Promise.all(many.map((port) => saw(3001, port))),
        many.map((port) => `backend: ${of.client} ${port}`),
        'many at once',
      )

      const twice = []
      for (let i = 0; i < 8; i++) twice.push(await saw(3002, 5002))
      t.same(
        twice.map((each) => each.split(': ')[1]),
        Array.from({ length: 8 }, () => `${of.client} 5002`),
        'one port to two backends',
      )
      t.equal(new Set(twice).size, 2, 'which had their turns')

      t.equal(await saw(3003, 5003), `backend: ${of.client} 5003`)
      await until(async () => (await bound(all, 5003)) === 0, 'the address is free when the session is over')
      t.equal(await saw(3003, 5003), `backend: ${of.client} 5003`, 'and can be had again')

      await client.say({ to: place(of.front, 3004), from: place(of.client, 5004) })
      await until(async () => {
        const heard = await all.on('backend').heard()
        return heard.some(({ saw }) => saw === `${of.client} 5004`)
      }, 'what is fired and forgotten comes from the client too')
      await until(async () => (await bound(all, 5004)) === 0, 'which leaves nothing behind')

      const { saw: seen, from } = await ask(3005, 5005)
      t.equal(seen, `${of.client} 5005`, 'on a bind for all addresses')
      t.equal(from, `${of.front} 3005`)
      t.equal(await saw(3005, 3005), `backend: ${of.client} 3005`, 'who asks from the port it asks')

      for (const port of [5010, 5011, 5012, 5013])
        t.equal(
          await saw(3006, port),
          `backend: ${of.client} ${port}`,
          'nobody listens there: the next backend',
        )

      const large = { to: place(of.front, 3007), from: place(of.client, 5007), bytes: 4096, answer: 4096 }
      for (const nth of ['first', 'second', 'third']) {
        const { bytes, asked, saw } = await client.ask(large)
        t.same([saw, asked, bytes], [`${of.client} 5007`, 4096, 4096], `large, by a narrow way: ${nth}`)
      }
      const narrow = { ...large, bytes: 1400, answer: 1400 }
      const { bytes, asked } = await client.ask(narrow)
      t.same([asked, bytes], [1400, 1400], 'between the lengths that the ways take')
    })
  })

for (const { name, skip } of PLANES)
  t.test(`plane ${name}`, { skip }, async (t) => {
    onHosts(t, 'answers leave from the address asked', 'iif', async (t, all, of) => {
      await all.balance(name, {
        every: server(':3000', [place(of.backend, 4000)]),
        any: server(at(of.every, 3001), [place(of.backend, 4000)]),
      })
      for (const port of [3000, 3001])
        for (const host of [of.front, of.second]) {
          const { from } = await all.on('client').ask({ to: place(host, port), from: place(of.client, 5000) })
          t.equal(from, `${host} ${port}`)
        }
      const { from } = await all.on('far').ask({ to: place(of.second, 3000) })
      t.equal(from, `${of.second} 3000`, 'by another way in')
      if (of === FAMILIES.four) return
      const shown = await all.run('balancer', 'ip', '-6', 'addr', 'show', 'dev', 'front', 'scope', 'link')
      const local = `${/inet6 (\S+)\//.exec(shown)![1]!}%eth0`
      for (const port of [3000, 3001]) {
        const asked = await all.on('client').ask({ to: place(local, port) })
        t.equal(asked.from, `${local} ${port}`, 'a link-local address')
      }
    })

    onHosts(t, 'an address that comes while we run is answered', 'iif', async (t, all, of) => {
      await all.balance(name, {
        every: server(':3000', [place(of.backend, 4000)]),
        any: server(at(of.every, 3001), [place(of.backend, 4000)]),
      })
      const host = of === FAMILIES.four ? '10.200.0.9' : 'fd00:200::9'
      const address = of === FAMILIES.four ? [`${host}/24`] : [`${host}/64`, 'nodad']
      for (const turn of ['it comes', 'it comes again']) {
        await all.run('balancer', 'ip', 'addr', 'add', 'dev', 'front', ...address)
        for (const port of [3000, 3001]) {
          const { from } = await all.on('client').ask({ to: place(host, port) })
          t.equal(from, `${host} ${port}`, turn)
        }
        await all.run('balancer', 'ip', 'addr', 'del', 'dev', 'front', address[0]!)
        const { from } = await all.on('client').ask({ to: place(of.front, 3000) })
        t.equal(from, `${of.front} 3000`, 'and goes')
      }
    })

    onHosts(t, 'ways that are too narrow', 'iif', async (t, all, of) => {
      await all.balance(name, {
        near: server(at(of.front, 3000), [place(of.backend, 4000)]),
        deep: server(at(of.front, 3001), [place(of.deep, 4000)]),
        every: server(':3002', [place(of.deep, 4000)]),
      })
      for (const port of [3000, 3001, 3002])
        for (const host of ['client', 'far'] as const)
          for (const [bytes, answer] of [
            [100, 4096],
            [4096, 100],
            [4096, 4096],
            [1400, 1400],
            [60_000, 60_000],
          ] as const)
            for (const nth of ['first', 'second', 'third']) {
              const from = place(of[host], 5000)
              const heard = await all.on(host).ask({ to: place(of.front, port), from, bytes, answer })
              t.same(
                [heard.asked, heard.bytes],
                [bytes, answer],
                `${host} to ${port}, the ${nth} of ${bytes} and ${answer} bytes, asked ${heard.tries} times`,
              )
            }
    })

    onHosts(t, 'datagrams in one piece', 'iif', async (t, all, of) => {
      const python = await all.run('client', 'python3', '--version').catch(() => '')
      if (!python) return t.plan(0, 'python3 is not installed')
      await all.start('backend', 'ready', 'python3', '-c', PIECES_BACKEND)
      await all.start('deep', 'ready', 'python3', '-c', PIECES_BACKEND)
      await all.balance(name, {
        near: server(at(of.front, 3000), [place(of.backend, 4100)]),
        deep: server(at(of.front, 3001), [place(of.deep, 4100)]),
        every: server(':3002', [place(of.backend, 4100)]),
      })
      for (const port of [3000, 3001, 3002])
        for (const [length, count] of [
          [100, 50],
          [1000, 13],
          [1400, 20],
        ] as const) {
          const argv = ['python3', '-c', PIECES_CLIENT, of.front, String(port), String(length), String(count)]
          const heard = await all.run('client', ...argv)
          // Who is behind a way too narrow for it cannot hand it to the kernel.
          const back =
            /no: .* too long|no: .*Invalid/.test(heard) && port === 3001 ? heard.slice(3) : count + 1
          t.equal(heard, `${count + 1} ${back}`, `${count} of ${length} bytes to ${port}`)
        }
    })

    onHosts(t, 'backends that are gone', 'iif', async (t, all, of) => {
      const two = [place(of.backend, 4001), place(of.backend, 4002)]
      await all.on('backend').serve(place(of.every, 4001), place(of.every, 4002))
      await all.balance(name, {
        ports: server(at(of.front, 3000), two),
        nobody: server(at(of.front, 3001), [place(of.nobody, 4000)]),
        near: server(at(of.front, 3002), [place(of.backend, 4000)]),
      })
      const client = all.on('client')
      const ask = (port: number) => client.ask({ to: place(of.front, port), from: place(of.client, 5000) })

      for (let i = 0; i < 20; i++)
        await client.say({ to: place(of.front, 3001), from: place(of.client, 6000 + i) })
      const { port } = await ask(3000)
      t.equal((await ask(3000)).port, port, 'a session stays where it is')
      await all.on('backend').leave(place(of.every, port))
      t.equal((await ask(3000)).port, port === 4001 ? 4002 : 4001, 'and moves when nobody is there')
      // Three tries of a second each, until the kernel says that there is nobody.
      const missing = async () => {
        const shown = await all.run('balancer', 'ip', 'neigh', 'show', 'to', of.nobody)
        return shown.includes('FAILED') || shown === ''
      }
      await until(missing, 'the kernel gives up')
      t.equal((await ask(3002)).host, 'backend', 'others go on')
      await client.say({ to: place(of.front, 3001), from: place(of.client, 6000) })
      t.equal((await ask(3000)).host, 'backend')
    })

    onHosts(t, 'one session for all ports of an address', 'iif', async (t, all, of) => {
      const ip = { session_key: 'ip' }
      await all.balance(name, {
        ip: server(at(of.front, 3000), [place(of.backend, 4000)], ip),
        every: server(':3001', [place(of.backend, 4000)], ip),
        address: server(at(of.front, 3002), [place(of.backend, 4000)]),
      })
      const more = Array.from({ length: 8 }, (_, i) =>
        of === FAMILIES.four ? `10.200.0.${100 + i}` : `fd00:200::${100 + i}`,
      )
      const bits = of === FAMILIES.four ? 24 : 64
      for (const each of more) {
        const nodad = of === FAMILIES.four ? [] : ['nodad']
        await all.run('client', 'ip', 'addr', 'add', `${each}/${bits}`, 'dev', 'eth0', ...nodad)
      }
      const client = all.on('client')
      /** The ports that the backend has seen, of a client that asks from as many. */
      const sessions = async (host: string, port: number) => {
        const seen = new Set<string>()
        for (let i = 0; i < 16; i++)
          seen.add((await client.ask({ to: place(of.front, port), from: place(host, 5000 + i) })).saw)
        return [...seen]
      }
      const seen = new Set<string>()
      for (const host of more)
        for (const port of [3000, 3001]) {
          const one = await sessions(host, port)
          t.equal(one.length, 1, `${host} to ${port}`)
          seen.add(one[0]!)
        }
      t.equal(seen.size, 2 * more.length, 'and another for every address')
      t.equal((await sessions(more[0]!, 3002)).length, 16, 'without the key each port has its own')
    })

    // What Node's sockets are not told of, and have no room for.
    if (name === 'portable') return
    onHosts(t, 'a way that is too narrow and says nothing', 'iif', async (t, all, of) => {
      if (of === FAMILIES.six) return t.plan(0, 'routers of IPv6 cut nothing')
      await all.balance(name, {
        near: server(at(of.front, 3000), [place(of.backend, 4000)]),
        deep: server(':3001', [place(of.deep, 4000)]),
        shots: server(at(of.front, 3002), [place(of.deep, 4000)], { max_requests: 1 }),
      })
      await all.run('hop', 'ip', 'rule', 'add', 'ipproto', 'icmp', 'blackhole')
      for (const [host, port] of [
        ['far', 3000],
        ['client', 3001],
        ['far', 3001],
      ] as const)
        for (const bytes of [1400, 1400, 4096]) {
          const { tries } = await all.on(host).ask({ to: place(of.front, port), bytes, answer: bytes })
          t.equal(tries, 1, `${host} to ${port}, ${bytes} bytes`)
        }
      await all.on('client').say({ to: place(of.front, 3002), bytes: 1400 })
      await until(async () => (await all.on('deep').heard()).length === 7, 'fire and forget')
    })

    onHosts(t, 'a host that cannot be reached loses its sessions', 'iif', async (t, all, of) => {
      const front = (port: number, gone: string, more = {}) =>
        server(at(of.front, port), [place(gone, 4000), place(of.backend, 4000)], {}, more)
      await all.balance(name, {
        nobody: front(3000, of.nobody),
        beyond: front(3001, of.beyond),
        kept: front(3002, of.nobody, { on_backend_loss: 'keep' }),
      })
      const client = all.on('client')
      const tries = async (port: number, from: number) =>
        (await client.ask({ to: place(of.front, port), from: place(of.client, from) })).tries

      let kept = 0
      for (const from of [5000, 5001])
        void tries(3002, from).then(
          () => kept++,
          () => {},
        )
      // One of two was on its way to nobody, for the three seconds in which ours or the router asks for it.
      await Promise.all(
        [3000, 3001].map(async (port) => {
          const both = await Promise.all([tries(port, 5000), tries(port, 5001)])
          t.equal(Math.min(...both), 1, `${port}: one is answered at once`)
          t.not(Math.max(...both), 1, 'and the other by the next backend')
          t.strictSame([await tries(port, 5000), await tries(port, 5001)], [1, 1], 'where both stay')
        }),
      )
      t.equal(kept, 1, 'a kept one is where it was')
    })

    onHosts(t, "hosts that are gone are nobody else's trouble", 'iif', async (t, all, of) => {
      const gone = [of.nobody, `${of.nobody.slice(0, -1)}8`, `${of.nobody.slice(0, -1)}7`]
      await all.balance(name, {
        shots: server(
          at(of.front, 3000),
          [...gone.map((host) => place(host, 4000)), place(of.backend, 4000)],
          { max_requests: 1 },
        ),
        plain: server(at(of.front, 3001), [place(of.backend, 4000)]),
      })
      const client = all.on('client')
      const shot = { to: place(of.front, 3000), from: place(of.client, 5000), bytes: 1000 }
      for (let i = 0; i < 100; i++) await Promise.all(Array.from({ length: 20 }, () => client.say(shot)))
      const heard = async () => (await all.on('backend').heard()).length
      await until(
        async () => (await heard()) >= 500,
        'every fourth datagram at the only backend that is there',
      )

      if (of === FAMILIES.six) return
      // Eight clients that ask for much and are gone: nobody answers ARP for them.
      const leaving = Array.from({ length: 8 }, (_, i) => `10.200.0.${100 + i}`)
      const question = { to: place(of.front, 3001), from: place(of.client, 5000) }
      await client.ask(question)
      const mac = await all.run('client', 'cat', '/sys/class/net/eth0/address')
      const known = ['lladdr', mac, 'dev', 'front', 'nud', 'permanent']
      await all.run('balancer', 'ip', 'neigh', 'replace', of.client, ...known)
      await all.run('client', 'sh', '-c', 'echo 8 >/proc/sys/net/ipv4/conf/all/arp_ignore')
      for (const host of leaving) {
        await all.run('client', 'ip', 'addr', 'add', `${host}/24`, 'dev', 'eth0')
        await client.say({ to: question.to, from: place(host, 5000), answer: 60_000 })
      }
      // The answers to them are on their way: the backend has been asked.
      await until(async () => (await heard()) >= 500 + 1 + leaving.length, 'all questions at the backend')
      t.equal((await client.ask({ ...question, again: 5000 })).tries, 1, 'who is there is answered')
    })
  })
