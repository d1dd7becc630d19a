// Builds the addon of the native plane with one call of the C compiler. As the install script it always succeeds:
// where nothing can be built it says so in a line, and the portable plane does the work.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, realpathSync, renameSync, rmSync } from 'node:fs'
import { statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const sources = join(root, 'native/src')
const folder = join(root, 'native/build')
const addon = join(folder, 'fairlead.node')
/** Why there is no addon, in words for the log of a balancer that would have used it. */
const reason = join(folder, 'why')

const FLAGS = [
  ...['-shared', '-fPIC', '-O2', '-std=gnu11', '-pthread', '-fvisibility=hidden'],
  ...['-D_GNU_SOURCE', '-DNAPI_VERSION=8', '-Wall', '-Wextra'],
]

/** Whether the addon is newer than all it is made from; the folder of the sources tells of those that have gone. */
export function isCurrent() {
  const made = modified(addon)
  const makers = [fileURLToPath(import.meta.url), sources, ...inside(sources)]
  return makers.every((each) => modified(each) <= made)
}

/**
 * Builds the addon. Where that does not work an older one is removed: what these sources did not make is never
 * loaded. Returns `state` (`built`, `none` without a compiler, `failed`), a `line` that says so, and what the
 * compiler `said`.
 */
export function buildAddon() {
  const { state, why, said = '' } = attempt()
  if (state !== 'built') rmSync(addon, { force: true })
  record(why)
  return { state, line: `fairlead: ${outcome(why)}`, said }
}

/**
 * Compiles all sources into `output` with `command`, a compiler and its first arguments. Returns `missing` when it is
 * not there, why it `failed`, and what it `said`.
 */
export function compile([compiler, ...first], output, more = []) {
  const files = inside(sources).filter((path) => path.endsWith('.c'))
  const headers = headerFolders().flatMap((each) => ['-isystem', each])
  const { error, status, signal, stderr } = spawnSync(
    compiler,
    [...first, ...FLAGS, ...headers, '-o', output, ...files.map((path) => path.slice(root.length)), ...more],
    { cwd: root, env: { ...process.env, LC_ALL: 'C' }, encoding: 'utf8' },
  )
  if (error) return { missing: true, failed: error.message, said: '' }
  if (status === 0) return { missing: false, said: stderr }
  const lines = stderr.split('\n').filter(Boolean)
  const line = lines.find((each) => /\berror: |undefined reference|cannot find/.test(each)) ?? lines[0]
  return { missing: false, failed: `${compiler}: ${line ?? ended(status, signal)}`, said: stderr }
}

/** Why Node cannot load `file`, tried in a process of its own; undefined when it can. */
export function loadFault(file) {
  const { NODE_OPTIONS: _, ...env } = process.env
  const load = ['-e', 'require(process.argv[1])', file]
  const { status, signal, stderr } = spawnSync(process.execPath, load, { env, encoding: 'utf8' })
  if (status === 0) return undefined
  return /^Error: (.*)/m.exec(stderr)?.[1] ?? (stderr.trim().split('\n')[0] || ended(status, signal))
}

/** This Node's system, as binaries that come along are named: `linux-x64-glibc`. */
export function platformName() {
  const { glibcVersionRuntime } = process.report.getReport().header
  return `${process.platform}-${process.arch}-${glibcVersionRuntime ? 'glibc' : 'musl'}`
}

function attempt() {
  if (process.platform !== 'linux') return { state: 'none', why: `this is ${process.platform}, not Linux` }
  const draft = join(folder, `fairlead.${process.pid}.node`)
  try {
    mkdirSync(folder, { recursive: true })
    const { missing, failed, said } = compileWithAny(draft)
    if (missing) return { state: 'none', why: failed }
    if (failed) return { state: 'failed', why: failed, said }
    const fault = loadFault(draft)
    if (fault) return { state: 'failed', why: `what was built does not load: ${fault}`, said }
    renameSync(draft, addon)
    return { state: 'built', said }
  } catch (error) {
    return { state: 'failed', why: error.message }
  } finally {
    rmSync(draft, { force: true })
  }
}

function compileWithAny(output) {
  const { CC = '', CFLAGS = '' } = process.env
  const asked = words(CC)
  for (const command of asked.length > 0 ? [asked] : [['cc'], ['gcc'], ['clang']]) {
    const tried = compile(command, output, words(CFLAGS))
    if (!tried.missing) return tried
  }
  return { missing: true, failed: `no C compiler was found${asked.length > 0 ? ` (CC is ${CC})` : ''}` }
}

/** node-api-headers as installed; without it, those that came with this Node or with that of the system. */
function headerFolders() {
  try {
    return [createRequire(import.meta.url)('node-api-headers').include_dir]
  } catch {
    return [resolve(process.execPath, '../../include/node'), '/usr/include/node'].filter(existsSync)
  }
}

function outcome(why) {
  if (!why) return 'the native plane is built'
  if (ready()) return `the native plane comes prebuilt; not built here: ${why}`
  return `the portable plane will be used: ${why}`
}

/** Whether the binary that came along can be loaded. */
function ready() {
  const path = join(root, `prebuilds/${platformName()}.node`)
  return existsSync(path) && !loadFault(path)
}

function record(why) {
  try {
    if (why) writeFileSync(reason, why)
    else rmSync(reason, { force: true })
  } catch {
    // The folder is not ours to write to; then the log cannot say why.
  }
}

/** Paths of what is in a folder; none when it is not there. */
function inside(path) {
  return existsSync(path) ? readdirSync(path).map((name) => join(path, name)) : []
}

function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

function words(text) {
  return text.split(/\s+/).filter(Boolean)
}

function ended(status, signal) {
  return signal ?? `exit status ${status}`
}

const asked = process.argv[1]
if (asked && realpathSync(asked) === fileURLToPath(import.meta.url)) console.log(buildAddon().line)
