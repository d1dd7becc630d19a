import type { Fixture } from './fixture.ts'
import { absent, answering, silent } from './servers.ts'

/** A bind response: result code, no name, a text. */
const response = (code: number, text = '', long = false) => {
  const body = Buffer.concat([Buffer.from([0x0a, 1, code, 4, 0, 4, text.length]), Buffer.from(text)])
  const size = long ? [0x81, body.length] : [body.length]
  const operation = Buffer.concat([Buffer.from([0x61, ...size]), body])
  return Buffer.concat([Buffer.from([0x30, operation.length + 3, 2, 1, 1]), operation])
}

export const fixture: Fixture = {
  passes: async (t) => [
    await answering(t, {}, [response(0)], /^bound$/),
    await answering(t, {}, [response(0, '', true)], /^bound$/),
  ],
  fails: async (t) => [
    await answering(
      t,
      {},
      [response(48, 'anonymous bind disallowed')],
      /^answered result 48: "anonymous bind dis/,
    ),
    await answering(t, {}, [response(51)], /^answered result 51$/),
    await answering(t, {}, [Buffer.from('30020201', 'hex')], /expected LDAP$/),
    await answering(t, {}, [Buffer.from('30ff', 'hex')], /expected LDAP$/),
  ],
  refused: async (t) => [await absent(t, {})],
  hangs: (t) => silent(t, {}),
  stream: () => ({}),
  wrong: { section: {}, keys: { check_proxy_protocol: 'v1' } },
}
