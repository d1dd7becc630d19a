import type { Test } from 'tap'
import type { Advice } from '../../../src/health/check.ts'
import type { Case, Fixture } from './fixture.ts'
import { at, local, nobody, portOf, silent, tcp } from './servers.ts'

/** An agent that says something at once and leaves. */
async function saying(t: Test, said: string, reason: RegExp, advice?: Advice): Promise<Case> {
  const { port, open } = await tcp(t, (socket) => socket.resume().end(said))
  return {
    section: { agent_port: port },
    target: at(local(1)),
    reason,
    over: () => open.size === 0,
    more: advice ? { advice } : {},
  }
}

export const fixture: Fixture = {
  passes: async (t) => [
    await saying(t, 'up\n', /^agent says "up"$/),
    await saying(
      t,
      'UP, 75%\tmaxconn:30 ready # fine, down\r\nmore',
      /^agent says "UP, 75%.tmaxconn:30 ready # fi/,
      {
        share: 0.75,
        maxConnections: 30,
        drain: false,
      },
    ),
    await saying(t, '0%', /^agent says "0%"$/, { share: 0 }),
    await saying(t, 'drain\n', /^agent says "drain"$/, { drain: true }),
    await saying(t, 'maint\n', /^agent says "maint"$/, { drain: true }),
    await saying(t, 'up 1e9% x\n', /^agent says "up 1e9% x", where "1e9% x" means nothing$/),
  ],
  fails: async (t) => [
    await saying(t, 'down # disk full\n', /^agent says "down # disk full"$/),
    await saying(t, 'fail\r', /^agent says "fail"$/),
    await saying(t, '75%,maxconn:30,maint,down\n', /^agent says "75%,maxconn:30,maint,down"$/, {
      share: 0.75,
      maxConnections: 30,
      drain: true,
    }),
    await saying(t, '', /^closed without an answer$/),
  ],
  refused: async (t) => [
    {
      section: { agent_port: (await nobody(t)).port },
      target: at(local(1)),
      reason: /^connection refused$/,
    },
  ],
  async hangs(t) {
    const one = await silent(t, {})
    return { ...one, section: { agent_port: portOf(one.target) } }
  },
  stream: (port) => ({ agent_port: port }),
  wrong: { section: { agent_port: 1 }, keys: { agent_port: 0, agent_send: '\\q' } },
}
