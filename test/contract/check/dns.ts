import type { Test } from 'tap'
import { decode } from 'dns-packet'
import type { Case, Fixture, Section } from './fixture.ts'
import { at, absent, nobody, silent, tcp, udp } from './servers.ts'

const asking: Section = { dns_name: 'web.example' }
const byTcp: Section = { ...asking, dns_protocol: 'tcp' }

/** The question turned into an answer with that code. */
function answer(question: Buffer, code: number): Buffer {
  const copy = Buffer.from(question)
  copy[2]! |= 0x80
  copy[3] = code
  return copy
}

async function overUdp(t: Test, code: number, more: Section, reason: RegExp): Promise<Case> {
  const address = await udp(t, (question, reply) => {
    const [asked] = decode(question).questions ?? []
    reply(asked?.name === 'web.example' && asked.type === 'A' ? answer(question, code) : 'what?')
  })
  return { section: { ...asking, ...more }, target: at(address), reason }
}

async function overTcp(t: Test, code: number, reason: RegExp): Promise<Case> {
  const { address, open } = await tcp(t, (socket) =>
    socket.on('data', (chunk) => {
      const reply = Buffer.concat([chunk.subarray(0, 2), answer(chunk.subarray(2), code)])
      socket.write(reply.subarray(0, 5))
      setImmediate(() => socket.write(reply.subarray(5)))
    }),
  )
  return { section: byTcp, target: at(address), reason, over: () => open.size === 0 }
}

export const fixture: Fixture = {
  passes: async (t) => [
    await overUdp(t, 0, {}, /^answered NOERROR$/),
    await overUdp(t, 3, { dns_rcode: ['NOERROR', 'NXDOMAIN'] }, /^answered NXDOMAIN$/),
    await overTcp(t, 0, /^answered NOERROR$/),
  ],
  fails: async (t) => [
    await overUdp(t, 2, {}, /^answered SERVFAIL, expected NOERROR$/),
    await overUdp(t, 0, { dns_type: 'SOA' }, /^answered "what\?", expected DNS$/),
    await overTcp(t, 5, /^answered REFUSED, expected NOERROR$/),
  ],
  refused: async (t) => [
    { section: asking, target: at(await nobody(t)), reason: /^connection refused$/ },
    await absent(t, byTcp),
  ],
  hangs: (t) => silent(t, byTcp),
  stream: () => byTcp,
  wrong: {
    section: asking,
    keys: { dns_name: 'a..b', dns_type: 'ANY', dns_rcode: [], dns_protocol: 'tls' },
  },
}
