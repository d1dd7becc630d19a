// How the native plane arrives: its addon is built or not, loads or not, and servers get the plane they asked for.

import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { utimesSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { problemOf } from '../../src/api/problem.ts'
import type { Address } from '../../src/core/address.ts'
import { realClock } from '../../src/core/clock.ts'
import { UnsupportedError } from '../../src/core/errors.ts'
import { configureLogging } from '../../src/core/log.ts'
import { choosePlanes, threadsOf } from '../../src/plane/choose.ts'
import type { Planes, PlaneSetting } from '../../src/plane/choose.ts'
import type { Addon, Handle } from '../../src/plane/native/addon.ts'
import { ADDON_VERSION, loadAddon } from '../../src/plane/native/load.ts'
import type { Loaded } from '../../src/plane/native/load.ts'
import { nativePlane } from '../../src/plane/native/plane.ts'
import { TOLD } from '../../src/plane/native/records.ts'
import { Inbox, Memory, Outbox, RING_BYTES } from '../../src/plane/native/ring.ts'
import { FakePlane } from '../support/fakeplane.ts'
import { folder } from '../support/folder.ts'
import { LedgerDesk, SPEC } from '../support/ledger.ts'
import { logged, serving } from '../support/observed.ts'
import { running } from '../support/running.ts'
import { until } from '../support/until.ts'

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url))
const BUILT = 'native/build/fairlead.node'
const { glibcVersionRuntime } = (process.report.getReport() as { header: { glibcVersionRuntime?: string } })
  .header
const SYSTEM = `${process.arch}-${glibcVersionRuntime ? 'glibc' : 'musl'}`
const PREBUILT = `prebuilds/linux-${SYSTEM}.node`

const noCompiler =
  process.platform !== 'linux'
    ? 'the native plane is for Linux'
    : spawnSync(process.env.CC || 'cc', ['--version']).error !== undefined && 'there is no C compiler'

void configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

/** An addon of that version and nothing else. */
const source = (version: number) => `
  #include <node_api.h>
  NAPI_MODULE_INIT() {
    napi_value version;
    napi_create_uint32(env, ${version}, &version);
    napi_set_named_property(env, exports, "version", version);
    return exports;
  }`

/** A package with files of its own and the build script of this one. */
class Tree {
  readonly root: string
  /** Of the last command, both streams. */
  output = ''

  constructor(t: Test, files: Readonly<Record<string, string>> = {}) {
    this.root = folder(t)
    for (const [path, text] of Object.entries(files)) this.write(path, text)
    this.write('native/src/addon.c', source(ADDON_VERSION))
    cpSync(join(PACKAGE, 'native/build.mjs'), join(this.root, 'native/build.mjs'))
    symlinkSync(join(PACKAGE, 'node_modules'), join(this.root, 'node_modules'))
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true })
    writeFileSync(join(this.root, path), text)
  }

  /** A program of that name: a shell script. Returns its path. */
  program(name: string, script: string): string {
    this.write(name, `#!/bin/sh\n${script}\n`)
    chmodSync(join(this.root, name), 0o755)
    return join(this.root, name)
  }

  has(path: string): boolean {
    return existsSync(join(this.root, path))
  }

  /** Runs Node on `args` in the tree and returns the exit status. */
  node(args: readonly string[], env: NodeJS.ProcessEnv = {}): number | null {
    const { CC: _cc, CFLAGS: _cflags, ...inherited } = process.env
    // tap loads itself into every Node its tests start; this one is to be as operators have it.
    const command = ['-u', 'NODE_OPTIONS', process.execPath, ...args]
    const { status, stdout, stderr } = spawnSync('/usr/bin/env', command, {
      cwd: this.root,
      env: { ...inherited, FAIRLEAD: '', GOBETWEEN: '', ...env },
      encoding: 'utf8',
    })
    this.output = stdout + stderr
    return status
  }

  /** As `npm install` does. */
  install(env?: NodeJS.ProcessEnv, ...before: string[]): number | null {
    return this.node([...before, 'native/build.mjs'], env)
  }

  load(platform = 'linux') {
    return loadAddon({ root: this.root, platform, system: SYSTEM })
  }

  get why(): string | undefined {
    const loaded = this.load()
    return 'why' in loaded ? loaded.why : undefined
  }
}

t.test(
  'where there is a C compiler, an install builds an addon that loads',
  { skip: noCompiler },
  async (t) => {
    const tree = new Tree(t)
    t.equal(tree.why, 'it was not built')
    t.equal(tree.install(), 0)
    t.equal(tree.output, 'fairlead: the native plane is built\n')
    t.match(tree.load(), { from: BUILT, addon: { version: ADDON_VERSION } })
  },
)

t.test('the addon of this package is one this program can use', { skip: noCompiler }, async (t) => {
  t.match(loadAddon(), { from: BUILT, addon: { version: ADDON_VERSION } })
})

t.test('CC may have arguments, and CFLAGS come after ours', { skip: noCompiler }, async (t) => {
  const tree = new Tree(t)
  const compiler = tree.program('compiler', `echo "$@" >"$0.args"; shift; exec cc "$@"`)
  t.equal(tree.install({ CC: `${compiler} -mine`, CFLAGS: '-DONE=1  -O0' }), 0)
  t.equal(tree.output, 'fairlead: the native plane is built\n')
  t.match(readFileSync(`${compiler}.args`, 'utf8'), /^-mine .*-O2 .*native\/src\/addon\.c -DONE=1 -O0\n$/)
})

t.test('an install without an addon succeeds, says why, and leaves none from before', async (t) => {
  const cases: Record<string, { env: (tree: Tree) => NodeJS.ProcessEnv; why: string | RegExp }> = {
    'no compiler': {
      env: () => ({ PATH: '/nonexistent' }),
      why: 'no C compiler was found',
    },
    'no such compiler': {
      env: () => ({ CC: 'nonesuch' }),
      why: 'no C compiler was found (CC is nonesuch)',
    },
    'a compiler that finds an error': {
      env: (tree) => ({ CC: tree.program('cc', 'echo "in x.c:\nx.c:1: error: boom\nmore" >&2; exit 1') }),
      why: /\/cc: x\.c:1: error: boom$/,
    },
    'a compiler that says nothing': {
      env: (tree) => ({ CC: tree.program('cc', 'exit 3') }),
      why: /\/cc: exit status 3$/,
    },
    'a compiler whose output does not load': {
      env: (tree) => ({
        CC: tree.program('cc', 'while [ "$1" != -o ]; do shift; done; echo garbage >"$2"'),
      }),
      why: /^what was built does not load: .*(file too short|invalid ELF header)$/,
    },
  }
  for (const [name, { env, why }] of Object.entries(cases)) {
    const tree = new Tree(t, { [BUILT]: 'from before' })
    t.equal(tree.install(env(tree)), 0, name)
    const told = /^fairlead: the portable plane will be used: (.*)\n$/.exec(tree.output)?.[1]
    t.match(told, why, name)
    t.notOk(tree.has(BUILT), name)
    t.equal(tree.why, `it was not built: ${told}`, name)
  }
})

t.test('other systems are told that it is for Linux', async (t) => {
  const tree = new Tree(t)
  const elsewhere = `data:text/javascript,Object.defineProperty(process,'platform',{value:'darwin'})`
  t.equal(tree.install({}, '--import', elsewhere), 0)
  t.equal(tree.output, 'fairlead: the portable plane will be used: this is darwin, not Linux\n')
  t.same(tree.load('darwin'), { why: 'this is darwin, and it is for Linux' })
})

t.test('a binary that came along does where none could be built', { skip: noCompiler }, async (t) => {
  const tree = new Tree(t)
  tree.install()
  mkdirSync(join(tree.root, 'prebuilds'))
  cpSync(join(tree.root, BUILT), join(tree.root, PREBUILT))
  t.match(tree.load(), { from: BUILT }, 'what was built goes first')
  t.equal(tree.install({ PATH: '/nonexistent' }), 0)
  t.equal(tree.output, 'fairlead: the native plane comes prebuilt; not built here: no C compiler was found\n')
  t.match(tree.load(), { from: PREBUILT })
  const other = new Tree(t, { [BUILT]: 'garbage', [PREBUILT]: '' })
  cpSync(join(tree.root, PREBUILT), join(other.root, PREBUILT))
  t.match(other.load(), { from: PREBUILT }, 'what was built does not load')
})

t.test('a binary that does not load is passed over, with what the loader said', async (t) => {
  const tree = new Tree(t, { [BUILT]: 'garbage', [PREBUILT]: '' })
  t.match(tree.load(), { why: /^it does not load: .*fairlead\.node: /, remedy: 'run "npm rebuild"' })
})

t.test('an addon of another version is passed over', { skip: noCompiler }, async (t) => {
  const tree = new Tree(t)
  tree.write('native/src/addon.c', source(ADDON_VERSION + 1))
  tree.install()
  t.same(tree.load(), { why: 'it is of another version', remedy: 'run "npm rebuild"' })
})

t.test('an addon is current until something it is made from is newer', async (t) => {
  const ask = 'import("./native/build.mjs").then(({ isCurrent }) => console.log(isCurrent()))'
  const tree = new Tree(t, { [BUILT]: '', 'native/src/loop.h': '', 'native/src/old.c': '' })
  const isCurrent = () => {
    t.equal(tree.node(['-e', ask]), 0, tree.output)
    return tree.output === 'true\n'
  }
  const parts = ['native/src/addon.c', 'native/src/loop.h', 'native/build.mjs', 'native/src']
  const touch = (path: string, seconds: number) => utimesSync(join(tree.root, path), seconds, seconds)
  for (const path of [...parts, 'native/src/old.c']) touch(path, 1000)
  touch(BUILT, 1000)
  t.ok(isCurrent())
  for (const path of parts) {
    touch(path, 1001)
    t.notOk(isCurrent(), path)
    touch(path, 1000)
  }
})

const LACK: Loaded = { why: 'it was not built: no C compiler was found', remedy: 'install one' }
const LOADED: Loaded = { addon: { version: ADDON_VERSION } as unknown as Addon, from: 'here.node' }

const BOTH: readonly Loaded[] = [LOADED, LACK]

/** Planes where loading the addon gives `loaded`; counted is how often it is loaded and made. */
function planesOf(plane: PlaneSetting, loaded: Loaded, fault?: Error) {
  const native = new FakePlane()
  const counts = { loaded: 0, made: 0 }
  const planes = choosePlanes({ plane, plane_threads: 3 }, realClock, {
    load: () => {
      counts.loaded++
      return loaded
    },
    make: (addon, { threads }) => {
      counts.made++
      if (fault) throw fault
      if (addon.version !== ADDON_VERSION || threads !== 3) throw new Error('made of something else')
      return native
    },
  })
  return { planes, counts, native }
}

t.test('every setting gives its plane, with and without an addon', async (t) => {
  const settings = ['auto', 'portable', 'native'] as const
  for (const top of settings)
    for (const own of [undefined, ...settings])
      for (const loaded of BOTH) {
        const { planes, counts, native } = planesOf(top, loaded)
        const asked = own ?? top
        const name = `plane = ${top}, of the server ${own}, ${'addon' in loaded ? 'with' : 'without'} an addon`
        t.same(counts, { loaded: 0, made: 0 }, name)
        if (asked === 'native' && loaded === LACK) {
          t.throws(() => planes.of('web', own), UnsupportedError, name)
          continue
        }
        const plane = planes.of('web', own)
        const expected = asked === 'portable' || loaded === LACK ? 'portable' : 'native'
        t.equal(plane.name, expected, name)
        t.equal(plane === native, expected === 'native', name)
        t.equal(planes.of('other', own), plane, `${name}: the same for all`)
        const once = asked === 'portable' ? 0 : 1
        t.same(counts, { loaded: once, made: expected === 'native' ? 1 : 0 }, name)
        if (!own) t.equal(planes.usual, expected, name)
      }
})

t.test('the log says once which plane it is and why', async (t) => {
  const cases = [
    ['auto', LOADED, 'native plane: 3 threads, here.node'],
    ['portable', LOADED, 'portable plane: the configuration asks for it'],
    [
      'auto',
      LACK,
      'portable plane: the native one cannot be used: it was not built: no C compiler was found',
    ],
  ] as const
  for (const [plane, loaded, line] of cases) {
    const log = logged(t)
    const { planes } = planesOf(plane, loaded)
    planes.of('one', undefined)
    planes.of('two', undefined)
    const lines = (await log()).split('\n').filter(Boolean)
    t.equal(lines.length, 1, line)
    t.ok(lines[0]?.endsWith(`(plane): ${line}`), `${lines[0]}: ${line}`)
  }
})

t.test('a native plane that cannot be made is like one that does not load, for good', async (t) => {
  const { planes, counts } = planesOf('auto', LOADED, new UnsupportedError('it gets no threads'))
  t.equal(planes.of('web', undefined).name, 'portable')
  t.equal(planes.usual, 'portable')
  t.throws(() => planes.of('web', 'native'), {
    message:
      'server web needs the native plane, which cannot be used: it gets no threads; set plane = "auto"',
  })
  t.same(counts, { loaded: 1, made: 1 })
  t.throws(() => planesOf('auto', LOADED, new Error('a bug')).planes.of('web', undefined), {
    message: 'a bug',
  })
})

t.test('as many threads as asked for, else one a core and 8 at most', async (t) => {
  t.equal(threadsOf(12), 12)
  t.equal(threadsOf(0), Math.min(availableParallelism(), 8))
})

t.test('a server that needs a plane there is none of is not created, and the others run on', async (t) => {
  const { planes } = planesOf('auto', LACK)
  const manager = await running(t, { servers: { web: serving([]) } }, { planes })
  const message =
    'server late needs the native plane, which cannot be used: it was not built: no C compiler was found; ' +
    'install one, or set plane = "auto"'
  await t.rejects(manager.create('late', serving([], { plane: 'native' })), new UnsupportedError(message))
  t.equal(problemOf(new UnsupportedError(message)).status, 409)
  t.same([...manager.servers.keys()], ['web'])
  await manager.create('late', serving([], { plane: 'portable' }))
})

t.test('a server may ask for another plane than the others', async (t) => {
  const { planes } = planesOf('portable', LOADED)
  const given: Record<string, string> = {}
  const of: Planes['of'] = (server, setting) => {
    const plane = planes.of(server, setting)
    given[server] = plane.name
    return plane
  }
  const servers = { web: serving([]), fast: serving([], { plane: 'native' }) }
  await running(t, { servers }, { planes: { usual: planes.usual, of } })
  t.same(given, { web: 'portable', fast: 'native' })
})

/** Calls `each` with where the payload of every record begins that is there. */
function readAll(inbox: Inbox, each: (at: number) => void): void {
  inbox.mark()
  inbox.report() // None is: all of them are for `next`.
  for (let at; (at = inbox.next()) >= 0;) each(at)
  inbox.release()
}

/** A plane of threads of which the last reads what it is told: kinds of records, and the binds that it is given. */
function reading(threads: number) {
  const told: number[] = []
  const binds: number[] = []
  let inbox!: Inbox
  const addon: Partial<Addon> = {
    reasons: {},
    start: (_threads, u8, ringBytes) => {
      const memory = { u8, i32: new Int32Array(u8.buffer), f64: new Float64Array(u8.buffer) } as Memory
      inbox = new Inbox(memory, u8.length - ringBytes, 0)
      return {} as Handle
    },
    listening: () => 1,
    probe: () => undefined,
    open: (_where, count) => ({ fds: Array<number>(count).fill(0), port: 80 }),
    rouse: () => {},
  }
  const plane = nativePlane(addon as Addon, { threads, clock: realClock })
  const read = () =>
    readAll(inbox, (at) => {
      told.push(inbox.kind)
      if (inbox.kind === TOLD.LISTEN) binds.push(inbox.memory.i32[(at >> 2) + 1]!)
    })
  return { plane, told, binds, read }
}

t.test('a server of very many addresses keeps others waiting no longer than one of few', async (t) => {
  const { plane, told, binds, read } = reading(16)
  const count = 20_000 // As many as a ring has room for.
  const listening = await plane.listen(
    { ...SPEC, binds: Array<Address>(count).fill({ host: '127.0.0.1', port: 80 }) },
    new LedgerDesk({}),
  )
  read()
  t.ok(told.length < count, 'its threads are told of them in slices')
  void listening.drain()
  await until(() => {
    read()
    return told.at(-1) === TOLD.DRAIN
  }, 'the drain to be told')
  t.equal(told.length, count + 1, 'after every address')
  t.ok(binds.every((bind, i) => bind === i))
})

t.test('what a thread is told while it reads nothing reaches it in order', async (t) => {
  const memory = new Memory(RING_BYTES)
  const [outbox, inbox] = [new Outbox(memory, 0), new Inbox(memory, 0, 0)]
  const count = 50_000
  for (let i = 0; i < count; i++) outbox.tell(TOLD.DROP, 16, ({ i32 }, at) => (i32[at >> 2] = i))
  t.ok(outbox.late > 0)
  const heard: number[] = []
  while (heard.length < count) {
    outbox.publish()
    readAll(inbox, (at) => heard.push(memory.i32[at >> 2]!))
  }
  t.ok(heard.every((number, i) => number === i))
  t.equal(outbox.late, 0)
})

t.test('a package without an addon: start, check and info say so', async (t) => {
  const config = { plane: 'native', servers: { web: serving([]) } }
  const tree = new Tree(t, { 'config.json': JSON.stringify(config) })
  for (const path of ['dist', 'bin', 'package.json'])
    cpSync(join(PACKAGE, path), join(tree.root, path), { recursive: true })
  const lack = 'cannot be used: it was not built'
  const remedy = 'install a C compiler and run "npm rebuild"'
  t.equal(tree.node(['bin/fairlead', '-c', 'config.json']), 1)
  t.match(
    tree.output,
    `fairlead: server web needs the native plane, which ${lack}; ${remedy}, or set plane = "auto"`,
  )
  t.equal(tree.node(['bin/fairlead', 'check', 'config.json']), 0)
  t.match(tree.output, `warning: server web needs the native plane, which ${lack}`)
  t.equal(tree.node(['bin/fairlead', 'check', '--strict', 'config.json']), 2)
  t.equal(tree.node(['bin/fairlead', 'info']), 0)
  t.match(tree.output, `\nplane         portable: the native one ${lack}; ${remedy}\n`)
  t.match(tree.output, new RegExp(`^version {7}\\d.*\nnode {10}${process.versions.node}\n`))
  t.match(tree.output, /\ndescriptors {3}\d+, of which clients get \d+\n/)
  if (noCompiler) return
  tree.install()
  t.equal(tree.node(['bin/fairlead', 'info']), 0)
  t.match(tree.output, /\nplane {9}native: \d threads?, native\/build\/fairlead\.node\n/)
})
