// Builds the binaries that a package brings along, prebuilds/linux-<arch>-<libc>.node, on Debian, where
// scripts/debian.sh native installs the compilers. A target whose compiler is missing is left out, and that is told.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compile, loadFault, platformName } from './build.mjs'

/** glibc 2.28 is what Node's own builds ask for. The 2 never changes, so versions are told apart by what follows. */
const NEWEST_GLIBC = 28

/** Node looks for it by this name. */
const ENTRY = 'napi_register_module_v1'

const GLIBC = 'libc.so.6'
const MUSL = 'libc.so'

const TARGETS = [
  { name: 'linux-x64-glibc', compiler: 'x86_64-linux-gnu-gcc', machine: 'X86-64', libc: GLIBC },
  { name: 'linux-arm64-glibc', compiler: 'aarch64-linux-gnu-gcc', machine: 'AArch64', libc: GLIBC },
  { name: 'linux-x64-musl', compiler: 'musl-gcc', machine: 'X86-64', libc: MUSL },
]

const folder = fileURLToPath(new URL('../prebuilds', import.meta.url))
mkdirSync(folder, { recursive: true })
const work = mkdtempSync(join(folder, '.work-'))
try {
  for (const target of TARGETS) console.log(`prebuilds/${target.name}.node: ${make(target)}`)
} finally {
  rmSync(work, { recursive: true })
}

/** Makes the binary anew and returns how that went. A fault, other than a missing compiler, fails the whole run. */
function make(target) {
  const path = join(folder, `${target.name}.node`)
  const draft = join(work, `${target.name}.node`)
  rmSync(path, { force: true })
  const { missing, failed = fault(target, draft) } = build(target, draft)
  if (missing) return `not made: ${target.compiler} is not there`
  if (failed) {
    process.exitCode = 1
    return `not made: ${failed}`
  }
  renameSync(draft, path)
  if (target.libc === MUSL) return 'made'
  return `made, for glibc 2.${Math.max(...needs(path).map(({ glibc }) => glibc))} and later`
}

function build(target, draft) {
  const flags = ['-s', '-static-libgcc', ...(target.libc === MUSL ? kernelHeaders() : [])]
  const tried = compile([target.compiler], draft, flags)
  const young = tried.failed ? [] : tooNew(draft)
  if (young.length === 0) return tried
  return compile([target.compiler], draft, [...flags, '-include', olderForms(target, young)])
}

/**
 * A header that binds functions to the form they had in glibc 2.28, where they had one: a linker takes the newest, and
 * 2.34 gave everything in libpthread a new one as it moved to libc.
 */
function olderForms({ name, compiler, libc }, young) {
  const { stdout } = spawnSync(compiler, [`-print-file-name=${libc}`], { encoding: 'utf8' })
  const offered = symbols(stdout.trim()).filter(({ glibc }) => glibc <= NEWEST_GLIBC)
  const lines = young.flatMap(({ symbol }) => {
    const forms = offered.filter((each) => each.symbol === symbol).sort((a, b) => b.glibc - a.glibc)
    return forms[0] ? [`__asm__(".symver ${symbol}, ${symbol}@${forms[0].version}");\n`] : []
  })
  const header = join(work, `${name}.h`)
  writeFileSync(header, lines.join(''))
  return header
}

/** What keeps a binary from being shipped; undefined when nothing does. */
function fault({ name, machine, libc }, path) {
  const made = /Machine: +(.*)/.exec(readelf('-h', path))?.[1]
  if (!made?.includes(machine)) return `the compiler made code for ${made}`
  const libraries = [...readelf('-d', path).matchAll(/\(NEEDED\).*\[(.*)\]/g)].map((match) => match[1])
  const strange = libraries.filter((each) => each !== libc && !each.startsWith('ld-linux'))
  if (strange.length > 0) return `it needs ${strange.join(', ')}`
  const young = tooNew(path).map(({ symbol, version }) => `${symbol} of ${version}`)
  if (young.length > 0) return `it needs ${young.join(', ')}, and is to run with GLIBC_2.${NEWEST_GLIBC}`
  if (!symbols(path).some(({ symbol, here }) => here && symbol === ENTRY))
    return `it does not export ${ENTRY}`
  const unable = name === platformName() && loadFault(path)
  return unable ? `it does not load: ${unable}` : undefined
}

function tooNew(path) {
  return needs(path).filter(({ glibc }) => glibc > NEWEST_GLIBC)
}

/** What a binary takes from glibc. */
function needs(path) {
  return symbols(path).filter(({ here, version }) => !here && version)
}

/** Dynamic symbols of a binary: whether it is there or only asked for, and its version in glibc if it has one. */
function symbols(path) {
  const row = /^ *\d+: \S+ +\S+ +\S+ +\S+ +\S+ +(\S+) +([^\s@]+)(?:@@?(GLIBC_2\.(\d+)(?:\.(\d+))?))?/gm
  return [...readelf('--dyn-syms', path).matchAll(row)].map(
    ([, section, symbol, version, minor, patch = 0]) => ({
      symbol,
      here: section !== 'UND',
      version,
      glibc: Number(minor) + patch / 100,
    }),
  )
}

function readelf(what, path) {
  const { error, stdout } = spawnSync('readelf', ['-W', what, path], { encoding: 'utf8', maxBuffer: 1 << 26 })
  if (error) throw error
  return stdout
}

/** musl's compiler looks nowhere else, and the kernel's headers stand among those of glibc. */
function kernelHeaders() {
  const headers = join(work, 'kernel')
  mkdirSync(headers)
  for (const [name, at] of [
    ['linux', '/usr/include/linux'],
    ['asm-generic', '/usr/include/asm-generic'],
    ['asm', '/usr/include/x86_64-linux-gnu/asm'],
  ])
    symlinkSync(at, join(headers, name))
  return ['-idirafter', headers]
}
