import type { Fixture } from './fixture.ts'
import { absent, at, tcp } from './servers.ts'

export const fixture: Fixture = {
  async passes(t) {
    const { address, open } = await tcp(t, (socket) => socket.resume())
    return [{ section: {}, target: at(address), reason: /^connected$/, over: () => open.size === 0 }]
  },
  fails: 'it only asks for a connection',
  refused: async (t) => [await absent(t, {})],
  hangs: 'loopback has no address that stays silent',
  stream: 'it reads nothing',
  wrong: { section: {}, keys: { check_port: 0, check_host: 'web', check_proxy_protocol: '3' } },
}
