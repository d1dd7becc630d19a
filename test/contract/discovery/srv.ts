import type { Test } from 'tap'
import { a, framed, nameserver, soa, srvRecord } from '../../support/nameserver.ts'
import type { Nameserver, Told } from '../../support/nameserver.ts'
import { freePort } from '../../support/spawned.ts'
import type { Section, Fixture } from './fixture.ts'

const FIRST = srvRecord('a.test', 80, { weight: 2 })
const SECOND = srvRecord('b.test', 81)
const ADDRESSES = [a('a.test', '127.0.0.1'), a('b.test', '127.0.0.2')]

function section({ address }: Pick<Nameserver, 'address'>, srv_dns_protocol = 'udp'): Section {
  return { srv_lookup_server: address, srv_lookup_pattern: '_web._tcp.test.', srv_dns_protocol }
}

const answering = async (t: Test, told: Told, protocol = 'udp') =>
  section(await nameserver(t, () => told), protocol)

/** Sockets for UDP that this process has open. */
const datagrams = () => process.getActiveResourcesInfo().filter((each) => each === 'UDPWrap').length

export const fixture: Fixture = {
  lists: (t) => answering(t, { answers: [FIRST, SECOND], additionals: ADDRESSES }),
  listed: ['127.0.0.1:80 2', '127.0.0.2:81 1'],
  empty: (t) => answering(t, { authorities: [soa(5)] }),
  garbage: async (t) => {
    const answers = [srvRecord('a.test', 0), FIRST, srvRecord('none.test', 82)]
    const told = { answers, additionals: ADDRESSES }
    const server = await nameserver(t, ({ type }) => (type === 'SRV' ? told : { authorities: [soa(5)] }))
    return {
      section: section(server),
      rejected: [
        /^target "none\.test": has no address$/,
        /^target "a\.test": expected a port of 1 to 65535, got 0$/,
      ],
    }
  },
  fails: async (t) => [
    {
      section: await answering(t, { flags: 2 }),
      message: /^SRV _web._tcp.test: 127.*:\d+ answered SERVFAIL$/,
    },
    { section: await answering(t, { flags: 5 }, 'tcp'), message: /^SRV .* answered REFUSED$/ },
    { section: await answering(t, { flags: 1 }), message: /^SRV .* answered FORMERR$/ },
    {
      section: section({ address: `127.0.0.1:${await freePort()}` }),
      message: /^SRV .*: 127.* over udp: ECONNREFUSED$/,
    },
    {
      section: section({ address: `127.0.0.1:${await freePort()}` }, 'tcp'),
      message: /^SRV .*: 127.* over tcp: ECONNREFUSED$/,
    },
    {
      section: section(await nameserver(t, ({ socket }) => void socket!.end()), 'tcp'),
      message: /over tcp: the connection was closed before the answer$/,
    },
    {
      section: section(await nameserver(t, ({ query }) => cut(query.id!))),
      message: /over udp: the message is malformed$/,
    },
    {
      section: section(await nameserver(t, () => Buffer.alloc(40)), 'tcp'),
      message: /over tcp: the message answers another question$/,
    },
    {
      section: await answering(t, { authorities: [{ type: 'NS', name: 'test', ttl: 5, data: 'ns.test' }] }),
      message: /answered that other servers know$/,
    },
  ],
  hangs: async (t) => {
    const server = await nameserver(t, () => undefined)
    return {
      section: section(server),
      begun: () => server.asked.length > 0,
      // The server's own is left.
      over: () => datagrams() === 1,
    }
  },
  slow: async (t) => {
    const server = await nameserver(t, ({ socket }) => {
      socket!.write(Buffer.of(200, 0))
      const drip = setInterval(() => socket!.write('x'), 5)
      socket!.on('close', () => clearInterval(drip))
      return undefined
    })
    return {
      section: section(server, 'tcp'),
      begun: () => server.asked.length > 0,
      over: () => server.sockets.size === 0,
    }
  },
  huge: async (t) => {
    // Cut short even where the most fits that can, and endless.
    const server = await nameserver(t, ({ query, protocol, socket }) => {
      const head = Buffer.alloc(65535)
      header(query.id!, 0x8200).copy(head)
      const flood = () => {
        while (socket!.writable && socket!.write(framed(head)));
      }
      if (protocol === 'tcp') socket!.on('drain', flood)
      return protocol === 'udp' ? { flags: 1 << 9 } : head
    })
    return {
      section: section(server),
      message: /over tcp: the answer is larger than a message$/,
      over: () => server.sockets.size === 0,
    }
  },
  changes: 'a DNS server tells nobody: it is asked again when the TTL is over',
  wrong: { srv_lookup_server: 'a:b:c', srv_lookup_pattern: 'a..b', srv_dns_protocol: 'http' },
}

/** An answer that says it has a record and ends. */
function cut(id: number): Buffer {
  const bytes = header(id, 0x8000)
  bytes.writeUInt16BE(1, 6)
  return bytes
}

/** The head of a message, then the question. */
function header(id: number, flags: number): Buffer {
  const head = Buffer.alloc(12)
  head.writeUInt16BE(id)
  head.writeUInt16BE(flags, 2)
  head.writeUInt16BE(1, 4)
  const name = Buffer.from('\x04_web\x04_tcp\x04test\0', 'latin1')
  return Buffer.concat([head, name, Buffer.of(0, 33, 0, 1)])
}
