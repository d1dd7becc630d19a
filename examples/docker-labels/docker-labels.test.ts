// The calls of the README, with a real Docker engine. Without one they are skipped.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { whyNot } from '../../test/support/component.ts'
import { folder } from '../../test/support/folder.ts'
import { freePort, freePorts, rewritten, spawnFairlead } from '../../test/support/spawned.ts'
import { until } from '../../test/support/until.ts'

const file = (name: string) => new URL(name, import.meta.url)
const run = promisify(execFile)

async function component(...args: string[]): Promise<{ status: number | null; stderr: string }> {
  const script = fileURLToPath(file('../../scripts/components/docker.sh'))
  const child = spawn(script, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, stderr }
}

const state = folder(t)
t.teardown(() => component('stop', state))
const started = await component('start', state, Math.random().toString(36).slice(2, 10))
const skip = whyNot(started)

t.test('docker-labels', { skip }, async (t) => {
  t.equal(started.status, 0, started.stderr)
  t.equal((await component('image', state)).status, 0)
  const port = await freePort()
  const ports = (await freePorts(3)) as [number, number, number]
  const socket = `unix://${state}/docker.sock`

  /** Starts a web server that tells its name, labelled and published as the README's containers are. */
  const serve = (name: string, published: number) =>
    run('docker', [
      ...['-H', socket, 'run', '-d', '--name', name, '--hostname', name],
      ...['-l', 'service=region-1.nginx', '-p', `${published}:80`],
      ...['tools', 'sh', '-c', 'hostname >/www/index.html; exec httpd -f -p 80 -h /www'],
    ])
  const curl = async () => (await run('curl', ['-sf', `http://127.0.0.1:${port}`])).stdout.trim()

  const fairlead = await spawnFairlead(t, file('fairlead.toml'), {})
  const body = rewritten(file('r1nginx.json'), {
    '127.0.0.1:8001': `127.0.0.1:${port}`,
    'unix:///var/run/docker.sock': socket,
    '"10s"': '"1h"',
  })

  t.test('two labelled containers and one call are an entry point', async (t) => {
    await serve('host1', ports[0])
    await serve('host2', ports[1])
    t.match(await fairlead.api('POST', '/servers/r1nginx', body), { status: 200, body: null })
    const met = new Set<string>()
    await until(async () => met.add(await curl()).size === 2, 'both hosts')
    t.same([...met].sort(), ['host1', 'host2'])
  })

  t.test('a third container serves within a second, the balancer untouched', async (t) => {
    await serve('host3', ports[2])
    const began = performance.now()
    await until(async () => (await curl()) === 'host3', 'the third host')
    t.comment(`served ${Math.round(performance.now() - began)} ms after docker run returned`)
  })

  t.test('a container that is gone gets no clients', async (t) => {
    await run('docker', ['-H', socket, 'rm', '-f', 'host1'])
    const backends = async () => (await fairlead.api('GET', '/servers/r1nginx/stats')).body.backends
    await until(async () => (await backends()).length === 2, 'two backends')
    for (let i = 0; i < 10; i++) t.not(await curl(), 'host1')
  })

  t.test('the README shows the file it sends', async (t) => {
    t.ok(readFileSync(file('README.md'), 'utf8').includes('--data-binary @r1nginx.json'))
  })
})
