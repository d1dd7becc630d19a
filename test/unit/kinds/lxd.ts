import { createPrivateKey, X509Certificate } from 'node:crypto'
import t from 'tap'
import { addressText } from '../../../src/core/address.ts'
import { realClock } from '../../../src/core/clock.ts'
import type { Clock } from '../../../src/core/clock.ts'
import type { Discovery } from '../../../src/discovery/discovery.ts'
import { selfSigned } from '../../../src/discovery/lxd/certificate.ts'
import { sourceSettings } from '../../../src/discovery/settings.ts'
import { createDiscovery } from '../../../src/discovery/sources.ts'
import { container, listing, missing, standIn } from '../../contract/discovery/lxd.ts'
import type { Answering } from '../../contract/discovery/lxd.ts'
import { FakeClock } from '../../support/clock.ts'
import { until } from '../../support/until.ts'

function made(section: object, clock: Clock = realClock): Discovery {
  return createDiscovery(sourceSettings.parse({ kind: 'lxd', ...section }), { clock, transport: 'tcp' })
}

const ask = (discovery: Discovery) => discovery.ask(new AbortController().signal)

const PORT = { 'user.port': '80' }

const addresses = (...list: object[]) => ({ network: { eth0: { addresses: list } } })
const GLOBAL = { family: 'inet', address: '10.0.0.7', scope: 'global' }
const LOCAL = { family: 'inet', address: '127.0.0.7', scope: 'local' }
const LINK = { family: 'inet', address: '169.254.0.7', scope: 'link' }

t.test('of the addresses of an interface a global one is taken, and none of its link', async (t) => {
  const named = (name: string, ...list: object[]) => ({
    ...container(name, '', PORT),
    state: addresses(...list),
  })
  const list = listing(named('a', LINK, LOCAL, GLOBAL), named('b', LINK, LOCAL), named('c', LINK))
  const { backends, rejected } = await ask(made((await standIn(t, list)).section))
  t.same(
    backends.map(({ address }) => addressText(address)),
    ['10.0.0.7:80', '127.0.0.7:80'],
  )
  t.same(rejected, [], 'the third may yet get one')
})

t.test(
  'a server of before there were instances is asked for containers, and for the state of each',
  async (t) => {
    const asked: string[] = []
    const others: Answering = (response, request) => {
      asked.push(request.url!)
      const a = { ...container('a', '', PORT), state: undefined }
      const b = { ...container('b', '', {}, 'Stopped'), state: undefined }
      const c = { ...container('c', '', PORT), state: undefined }
      if (request.url === '/1.0/containers?recursion=1') listing(a, b, c)(response, request)
      else if (request.url === '/1.0/containers/a/state')
        response.end(JSON.stringify({ metadata: addresses(GLOBAL) }))
      else missing(response, request)
    }
    const { backends } = await ask(made((await standIn(t, missing, others)).section))
    t.same(
      backends.map(({ address }) => addressText(address)),
      ['10.0.0.7:80'],
    )
    t.same(asked, ['/1.0/containers?recursion=1', '/1.0/containers/a/state', '/1.0/containers/c/state'])
  },
)

t.test(
  'a container that starts is looked at until it has its address, and then there is a hint',
  async (t) => {
    let state = addresses()
    let looks = 0
    const { section } = await standIn(
      t,
      (response, request) => listing({ ...container('a', '', PORT), state })(response, request),
      (response, request) => {
        t.equal(request.url, '/1.0/instances/a/state')
        looks++
        response.end(JSON.stringify({ metadata: state }))
      },
    )
    const discovery = made(section)
    const watching = new AbortController()
    t.teardown(() => watching.abort())
    let connected = false
    let hints = 0
    discovery.watch!(watching.signal, {
      connected: () => void (connected = true),
      hint: () => void hints++,
      lost: () => {},
    })
    await until(() => connected)
    t.same((await ask(discovery)).backends, [])
    await until(() => looks > 1, 'two looks')
    t.equal(hints, 0)
    state = addresses(GLOBAL)
    await until(() => hints === 1, 'the hint')
    t.equal((await ask(discovery)).backends.length, 1)
  },
)

t.test('a server that pinged and then says nothing is lost within a minute', async (t) => {
  const clock = new FakeClock()
  const { section, events, over } = await standIn(t, listing())
  const watching = new AbortController()
  t.teardown(() => watching.abort())
  let connected = false
  const losses: string[] = []
  made(section, clock).watch!(watching.signal, {
    connected: () => void (connected = true),
    hint: () => {},
    lost: (why) => losses.push(why),
  })
  await until(() => connected)
  const [client] = events.clients
  const ponged = new Promise((resolve) => client!.on('pong', resolve))
  client!.ping()
  await ponged
  await clock.advance(40_000)
  t.same(losses, [])
  await clock.advance(10_000)
  await until(() => losses.length === 1, 'the loss')
  t.match(losses[0], /^nothing from LXD at unix:.* for 45 s$/)
  watching.abort()
  await until(over, 'its end')
})

t.test('however many containers cannot be used, a hundred are named', async (t) => {
  const list = Array.from({ length: 250 }, (_, i) => container(`c${i}`, '10.0.0.1', {}))
  const { rejected } = await ask(made((await standIn(t, listing(...list))).section))
  t.equal(rejected?.length, 101)
  t.equal(rejected?.at(-1), 'and 150 more')
})

t.test('a certificate of our own is what it says, in any century', async (t) => {
  for (const year of [2026, 2045]) {
    const { certificate, key } = selfSigned('fairlead on höst', new Date(Date.UTC(year, 1, 28)))
    const read = new X509Certificate(certificate)
    t.equal(read.subject, 'CN=fairlead on höst')
    t.equal(read.issuer, read.subject)
    t.equal(read.ca, false)
    t.same(read.keyUsage, ['1.3.6.1.5.5.7.3.2'], 'client authentication')
    t.ok(read.verify(read.publicKey), 'signed by its own key')
    t.ok(read.checkPrivateKey(createPrivateKey(key)))
    t.match([read.validFrom, read.validTo], [new RegExp(`${year} GMT`), new RegExp(`${year + 10} GMT`)])
  }
})
