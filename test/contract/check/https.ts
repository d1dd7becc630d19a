import type { Fixture } from './fixture.ts'
import { absent, answering, at, certificate, endOf, secure, silent, speaks } from './servers.ts'

export const fixture: Fixture = {
  async passes(t) {
    const files = certificate(t, 'web.example')
    if (!files) return []
    const { address, open } = await secure(t, files, speaks(['HTTP/1.1 200 OK\r\n\r\n']))
    return [
      {
        section: {},
        target: at(address),
        reason: /^status 200$/,
        over: () => open.size === 0,
        more: { certificateEnds: endOf(files) },
      },
    ]
  },
  async fails(t) {
    const plain = await answering(t, {}, ['HTTP/1.1 200 OK\r\n\r\n'], /^tls handshake failed: /)
    const files = certificate(t, 'web.example')
    if (!files) return [plain]
    const { address, open } = await secure(t, files, speaks(['HTTP/1.1 503 No\r\n\r\n']))
    const rest = { target: at(address), over: () => open.size === 0 }
    const more = { certificateEnds: endOf(files) }
    return [
      plain,
      { section: { tls_verify: true }, ...rest, more, reason: /^certificate: depth zero self signed cert$/ },
      { section: {}, ...rest, more, reason: /^status 503, expected 200-399$/ },
    ]
  },
  refused: async (t) => [await absent(t, {})],
  hangs: (t) => silent(t, {}),
  stream: () => ({}),
  wrong: { section: {}, keys: { http_status: '20', tls_cacert_path: '/x' } },
}
