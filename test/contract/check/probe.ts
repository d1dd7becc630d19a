import type { Fixture, Section } from './fixture.ts'
import { absent, answering, at, silent, udp } from './servers.ts'

export const probing = (more: Section = {}): Section => ({
  probe_protocol: 'tcp',
  probe_send: 'PING\\r\\n',
  probe_recv: 'PONG',
  ...more,
})

/** The same conversation in steps, as mail servers have it. */
const steps: Section = {
  probe_protocol: 'tcp',
  probe_steps: [
    { expect: '220 ' },
    { send: 'EHLO x\r\n' },
    { expect: '(?m)^250 (\\w+)', strategy: 'regexp' },
    { send: 'NOOP\\r\\n' },
    { expect: ' OK', strategy: 'contains' },
    { expect: '\\r\\n' },
    { send: 'QUIT\r\n' },
  ],
}

const greeted = ['220 mail\r\n', '250-SIZE 1\r\n250 HELP\r\n']

export const fixture: Fixture = {
  passes: async (t) => [
    await answering(t, probing(), ['PONG and more'], /^answered "PONG"$/),
    await answering(t, steps, [...greeted, '250 OK\r\n'], /^answered "\\r\\n"$/, true),
    {
      section: { ...steps, probe_protocol: 'udp', probe_steps: [{ send: 'a' }, { expect: 'b' }] },
      target: at(await udp(t, (message, reply) => reply(message.toString() === 'a' ? 'b' : 'c'))),
      reason: /^answered "b"$/,
    },
  ],
  fails: async (t) => [
    await answering(t, probing(), ['NOPE'], /^answered "NOPE"$/),
    await answering(t, steps, ['421 full\r\n'], /^step 1: answered "421 full\\r\\n", expected "220 "$/, true),
    await answering(
      t,
      steps,
      [...greeted, `250 O${'x'.repeat(70_000)}`],
      /^step 5: answered "250 O.*expected " OK"$/,
      true,
    ),
  ],
  refused: async (t) => [await absent(t, probing()), await absent(t, steps)],
  hangs: (t) => silent(t, steps),
  stream: () => steps,
  wrong: {
    section: { probe_protocol: 'tcp' },
    keys: { probe_send: '"', probe_recv_len: -1, check_port: 70_000, probe_steps: [{ send: 'a' }] },
  },
}
