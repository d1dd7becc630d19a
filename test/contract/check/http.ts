import type { Fixture, Section } from './fixture.ts'
import { absent, answering, at, silent, tcp } from './servers.ts'

const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n5;x=y\r\n good\r\n0\r\n\r\n'
const sized = 'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nall good and more'
const body = { http_body: 'all good' }

export const fixture: Fixture = {
  async passes(t) {
    let request = ''
    const { address, open, port } = await tcp(t, (socket) =>
      socket.on('data', (chunk) => {
        request = chunk.toString()
        socket.end('HTTP/1.0 418 Teapot\r\n\r\n')
      }),
    )
    const slow = await tcp(t, (socket) =>
      socket.once('data', () => {
        socket.write(chunked.slice(0, -14))
        setTimeout(() => socket.write(chunked.slice(-14)), 20)
      }),
    )
    const asked: Section = {
      http_method: 'HEAD',
      http_path: '/health?full',
      http_status: '200-299, 418',
      http_headers: { 'X-Probe': 'é', accept: 'text/plain' },
    }
    const expected = [
      'HEAD /health?full HTTP/1.1',
      `Host: 127.0.0.1:${port}`,
      'User-Agent: fairlead',
      'Connection: close',
      'X-Probe: é',
      'accept: text/plain',
    ]
    return [
      {
        section: asked,
        target: at(address),
        reason: /^status 418$/,
        over: () => open.size === 0 && request === expected.join('\r\n') + '\r\n\r\n',
      },
      await answering(t, {}, ['HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\n\r\n'], /^status 302$/),
      await answering(t, body, [sized], /^status 200$/),
      await answering(t, body, [chunked], /^status 200$/),
      { section: body, target: at(slow.address), reason: /^status 200$/, over: () => slow.open.size === 0 },
      await answering(t, { http_body_regexp: '^all\\s\\w{4}$' }, [chunked], /^status 200$/),
    ]
  },
  fails: async (t) => [
    await answering(t, { http_status: '2xx' }, ['HTTP/1.1 503 No\r\n\r\n'], /^status 503, expected 2xx$/),
    await answering(t, { http_body: 'more' }, [sized], /^status 200, but its body lacks "more"$/),
    await answering(
      t,
      { http_body_regexp: 'x+' },
      [chunked],
      /^status 200, but its body does not match "x\+"$/,
    ),
    await answering(t, {}, ['HTTP/2 200\r\n\r\n'], /expected HTTP\/1\.1$/),
    await answering(t, {}, ['220 mail\r\n'], /^answered "220 mail\\r\\n", expected HTTP$/),
  ],
  refused: async (t) => [await absent(t, {})],
  hangs: (t) => silent(t, {}),
  stream: () => body,
  wrong: {
    section: {},
    keys: {
      http_method: 'POST',
      http_path: 'x',
      http_host: 'a b',
      http_headers: { 'a b': 'c' },
      http_status: '299-200',
      http_body_regexp: '(',
    },
  },
}
