import type { Fixture } from './fixture.ts'
import { absent, answering, at, silent, tcp } from './servers.ts'

const packet = (number: number, body: string | Buffer) =>
  Buffer.concat([Buffer.from([body.length, 0, 0, number]), Buffer.from(body as string, 'latin1')])

const greeting = packet(0, `\x0a10.11.19-MariaDB\0${'x'.repeat(40)}`)
const ok = packet(2, '\0\0\0\x02\0\0\0')
const error = (code: number, text: string) =>
  packet(2, Buffer.concat([Buffer.from([0xff, code & 0xff, code >> 8]), Buffer.from(text)]))

const named = { mysql_user: 'probe' }

export const fixture: Fixture = {
  async passes(t) {
    const heard: string[] = []
    const turns = [packet(2, '\xfecaching_sha2_password\0salt'), packet(4, '\0\0\0\x02\0\0\0')]
    const { address, open } = await tcp(t, (socket) => {
      socket.write(greeting)
      socket.on('data', (chunk) => {
        heard.push(chunk.toString('hex'))
        const turn = turns.shift()
        if (turn) socket.write(turn)
      })
    })
    return [
      await answering(t, named, [greeting, ok], /^logged in$/, true),
      await answering(
        t,
        {},
        [greeting, error(1045, '#28000Access denied')],
        /error 1045: "Access denied"$/,
        true,
      ),
      {
        section: named,
        target: at(address),
        reason: /^logged in$/,
        // No password again, with the number that is due; and a proper end.
        over: () => open.size === 0 && heard[1] === '00000003' && heard[2] === '0100000001',
      },
    ]
  },
  fails: async (t) => [
    await answering(
      t,
      {},
      [error(1129, "Host 'x' is blocked")],
      /^answered error 1129: "Host 'x' is blocked"$/,
      true,
    ),
    await answering(t, {}, [error(1040, '#08004Too many connections')], /error 1040: "Too many conn/, true),
    await answering(
      t,
      {},
      [greeting, error(1053, '#08S01Server shutdown')],
      /error 1053: "Server shutdown"/,
      true,
    ),
    await answering(t, named, [greeting, error(1045, '#28000Access denied')], /1045: "Access denied"$/, true),
    await answering(t, {}, [packet(0, '\xff')], /^answered error 0: ""$/, true),
  ],
  refused: async (t) => [await absent(t, {})],
  hangs: (t) => silent(t, {}),
  stream: () => ({}),
  wrong: { section: {}, keys: { mysql_user: 7 } },
}
