import type { Fixture } from './fixture.ts'
import { absent, answering, at, certificate, endOf, secure, silent } from './servers.ts'

export const fixture: Fixture = {
  async passes(t) {
    const files = certificate(t, 'web.example')
    if (!files) return []
    const { address, open } = await secure(t, files, (socket) => socket.resume())
    const rest = {
      reason: /^shook hands over TLSv1\.3$/,
      over: () => open.size === 0,
      more: { certificateEnds: endOf(files) },
    }
    const verified = { tls_verify: true, tls_cacert_path: files.cert }
    return [
      { section: {}, target: at(address), ...rest },
      {
        section: verified,
        target: { address: { host: 'web.example', port: 1 }, endpoints: [address] },
        ...rest,
      },
      { section: { ...verified, tls_server_name: 'web.example' }, target: at(address), ...rest },
    ]
  },
  async fails(t) {
    const plain = await answering(t, {}, ['HTTP/1.1 400 Bad Request\r\n\r\n'], /^tls handshake failed: /)
    const files = certificate(t, 'web.example')
    if (!files) return [plain]
    const { address, open } = await secure(t, files, (socket) => socket.resume())
    const verified = { tls_verify: true, tls_cacert_path: files.cert }
    const rest = { target: at(address), over: () => open.size === 0, more: { certificateEnds: endOf(files) } }
    const over = certificate(t, 'web.example', -1)!
    const past = await secure(t, over, (socket) => socket.resume())
    const ended = new RegExp(
      `^certificate has expired on ${new Date(endOf(over)).toISOString().slice(0, 10)}$`,
    )
    return [
      {
        section: { tls_verify: true, tls_cacert_path: over.cert, tls_server_name: 'web.example' },
        target: at(past.address),
        reason: ended,
        more: { certificateEnds: endOf(over) },
        over: () => past.open.size === 0,
      },
      plain,
      { section: { tls_verify: true }, ...rest, reason: /^certificate: depth zero self signed cert$/ },
      { section: verified, ...rest, reason: /127\.0\.0\.1 is not in the cert's list/ },
    ]
  },
  refused: async (t) => [await absent(t, {})],
  hangs: (t) => silent(t, {}),
  stream: () => ({}),
  wrong: { section: {}, keys: { tls_cacert_path: '/x', check_host: 'x' } },
}
