import type { Fixture } from './fixture.ts'
import { absent, answering, silent, at, tcp } from './servers.ts'

const login = { redis_username: 'probe', redis_password: 'pä$$' }

export const fixture: Fixture = {
  async passes(t) {
    let got = ''
    const asked = '*3\r\n$4\r\nAUTH\r\n$5\r\nprobe\r\n$5\r\npä$$\r\n*1\r\n$4\r\nPING\r\n'
    const { address, open } = await tcp(t, (socket) =>
      socket.on('data', (chunk) => {
        got += chunk.toString()
        if (got !== asked) return
        socket.write('+OK\r\n+PO')
        setImmediate(() => socket.write('NG\r\n'))
      }),
    )
    const reason = /^answered "\+PONG"$/
    return [
      await answering(t, {}, ['+PONG\r\n'], reason),
      { section: login, target: at(address), reason, over: () => open.size === 0 },
    ]
  },
  fails: async (t) => [
    await answering(t, {}, ['-LOADING Redis is loading\r\n'], /^answered "-LOADING Redis is loading"$/),
    await answering(t, {}, ['-NOAUTH Authentication required.\r\n'], /"-NOAUTH Authentication required\."$/),
    await answering(t, login, ['-WRONGPASS no\r\n-NOAUTH\r\n'], /^answered "-WRONGPASS no"$/),
    // It repeats the password, which is not for the log.
    await answering(
      t,
      login,
      ["-ERR unknown command 'AUTH', with args beginning with: 'probe' 'pä$$' \r\n"],
      /^answered "-ERR unknown command 'AUTH'"$/,
    ),
  ],
  refused: async (t) => [await absent(t, {})],
  hangs: (t) => silent(t, {}),
  stream: () => ({}),
  wrong: { section: {}, keys: { redis_password: '' } },
}
