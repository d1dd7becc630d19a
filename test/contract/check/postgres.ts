import type { Fixture } from './fixture.ts'
import { absent, answering, silent } from './servers.ts'

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5, type)
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

const authentication = (code: number) => message('R', Buffer.from([0, 0, 0, code]))
const error = (state: string, text: string) =>
  message('E', Buffer.from(`SFATAL\0VFATAL\0C${state}\0M${text}\0\0`))

const setting = message('S', Buffer.from('TimeZone\0Etc/UTC\0'))
const ready = message('Z', Buffer.from('I'))

const named = { postgres_user: 'probe', postgres_database: 'web' }

export const fixture: Fixture = {
  passes: async (t) => [
    await answering(t, named, [authentication(10)], /^asked for a password$/),
    await answering(
      t,
      named,
      [Buffer.concat([authentication(0), setting, ready, Buffer.alloc(300)])],
      /^let in$/,
    ),
    await answering(
      t,
      {},
      [Buffer.concat([authentication(0), error('3D000', 'no database')])],
      /"no database"$/,
    ),
    await answering(t, {}, [error('28000', 'no pg_hba.conf entry')], /28000: "no pg_hba.conf entry"$/),
  ],
  fails: async (t) => [
    await answering(t, {}, [error('57P03', 'starting up')], /^answered FATAL 57P03: "starting up"$/),
    await answering(t, {}, [error('53300', 'too many')], /^answered FATAL 53300: "too many"$/),
    await answering(t, named, [error('28000', 'no')], /^answered FATAL 28000: "no"$/),
    await answering(t, {}, ['R\0\0\0\x01'], /expected PostgreSQL$/),
  ],
  refused: async (t) => [await absent(t, {})],
  hangs: (t) => silent(t, {}),
  stream: () => ({}),
  wrong: { section: {}, keys: { postgres_user: '', postgres_database: 7 } },
}
