import type { Fixture } from './fixture.ts'
import { absent, answering, silent } from './servers.ts'

export const fixture: Fixture = {
  passes: async (t) => [
    await answering(
      t,
      {},
      ['220-mx\r\n220 go\r\n', '250 hi\r\n', '221 bye\r\n'],
      /^answered "250 hi"$/,
      true,
    ),
  ],
  fails: async (t) => [
    await answering(t, {}, ['554 No service\r\n'], /^answered "554 No service", expected 220$/, true),
    await answering(t, {}, ['220 mx\r\n', '501 who?\r\n'], /^answered "501 who\?", expected 250$/, true),
  ],
  refused: async (t) => [await absent(t, {})],
  hangs: (t) => silent(t, {}),
  stream: () => ({}),
  wrong: { section: {}, keys: { smtp_domain: 'a\r\nb' } },
}
