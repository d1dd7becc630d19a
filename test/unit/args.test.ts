// The command line: what it asks for, what it is refused for, and what surrounds it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parseCommand, UsageError } from '../../src/cli/args.ts'
import { runCheck } from '../../src/cli/check.ts'
import { COMMANDS, helpText } from '../../src/cli/help.ts'
import type { CommandName } from '../../src/cli/help.ts'
import { removePidfile, writePidfile } from '../../src/cli/pidfile.ts'

const read = (line: string, environment = {}) => parseCommand(line.split(' ').filter(Boolean), environment)

/** What a refused command line is told. */
function refusal(line: string, environment = {}): string {
  try {
    return `accepted: ${JSON.stringify(read(line, environment))}`
  } catch (error) {
    if (error instanceof UsageError) return error.message
    throw error
  }
}

const run = (origin: object, more = {}) => ({
  command: 'run',
  source: { origin, substitute: false, ...more },
})
const file = (path: string) => ({ kind: 'file', path })

t.test('every way gobetween is started is understood', async (t) => {
  const url = { kind: 'url', url: 'http://x/c' }
  const consul = { kind: 'consul', host: 'localhost:8500', key: 'gobetween' }
  const cases: Record<string, object> = {
    '-c a.toml': run(file('a.toml')),
    '--config a.toml': run(file('a.toml')),
    '--config=a.toml': run(file('a.toml')),
    '-ca.toml': run(file('a.toml')),
    'from-file a.toml': run(file('a.toml')),
    'from-url http://x/c': run(url),
    'from-consul localhost:8500': run(consul),
    'from-consul localhost:8500 -k lb -s https': run({ ...consul, key: 'lb', scheme: 'https' }),
    '--key=lb from-consul --scheme http localhost:8500': run({ ...consul, key: 'lb', scheme: 'http' }),
    '-f json from-url http://x/c': run(url, { format: 'json' }),
    'from-url http://x/c -f json -e': run(url, { format: 'json', substitute: true }),
    '-c a.toml --use-config-env-vars': run(file('a.toml'), { substitute: true }),
    '-c a.toml --use-config-env-vars=false': run(file('a.toml')),
    '-c a.toml --pidfile /run/g.pid': { ...run(file('a.toml')), pidfile: '/run/g.pid' },
    'from-file -p /run/g.pid a.toml': { ...run(file('a.toml')), pidfile: '/run/g.pid' },
    '-v': { command: 'version' },
    '--version': { command: 'version' },
    '': { command: 'help' },
    '-h': { command: 'help' },
    help: { command: 'help' },
  }
  for (const [line, command] of Object.entries(cases)) t.same(read(line), command, line)
})

t.test('check takes its file either way', async (t) => {
  const source = { origin: file('a.toml'), substitute: false }
  t.same(read('check a.toml'), { command: 'check', source, strict: false })
  t.same(read('check -c a.toml --strict'), { command: 'check', source, strict: true })
  t.same(read('--strict check -f json -e a.toml'), {
    command: 'check',
    source: { ...source, format: 'json', substitute: true },
    strict: true,
  })
})

t.test('every command has help, asked for in three ways', async (t) => {
  for (const name of Object.keys(COMMANDS) as CommandName[]) {
    const help = name === 'help' ? { command: 'help' } : { command: 'help', topic: name }
    t.same(read(`${name} --help`), help)
    t.same(read(`-h ${name}`), help)
    if (name !== 'help') t.same(read(`help ${name}`), help)
    t.match(helpText(name), `Usage: fairlead ${COMMANDS[name][0]}`)
    t.match(helpText(), `  ${COMMANDS[name][0]}  `)
  }
  t.ok([...Object.keys(COMMANDS), undefined].every((topic) => isNarrow(helpText(topic as CommandName))))
})

const isNarrow = (text: string) => text.split('\n').every((line) => line.length <= 110)

t.test('a command line that cannot be followed is told what to do instead', async (t) => {
  const cases: Record<string, RegExp> = {
    'from-fil a.toml': /unknown command "from-fil"; did you mean from-file\?/,
    'my.toml': /to start with a file: fairlead -c my.toml/,
    '--confg a.toml': /unknown option --confg; did you mean --config\?/,
    '-x': /unknown option -x; see fairlead --help/,
    '-c': /-c needs a value/,
    '-c -e': /-c needs a value/,
    '--config=': /--config needs a value/,
    '--use-config-env-vars=maybe -c a': /takes no value but true or false, got "maybe"/,
    '-c a -f yaml': /--format has to be toml or json, got "yaml"/,
    'from-file': /expected one argument, got 0: fairlead from-file PATH/,
    'from-file a b': /expected one argument, got 2/,
    'from-url': /fairlead from-url URL/,
    'from-consul localhost': /expected HOST:PORT of a Consul agent, got "localhost"/,
    'from-consul h:1 -s ftp': /--scheme has to be http or https, got "ftp"/,
    'from-file a -k x': /--key has no meaning with from-file: only from-consul takes it/,
    '-c a from-file b': /--config has no meaning with from-file: only check takes it/,
    '-c a --strict': /--strict has no meaning here: only check takes it/,
    check: /expected one file, got 0/,
    'check -c a b': /expected one file, got 2/,
    'check a -p x': /--pidfile has no meaning with check/,
    'demo now': /demo takes no arguments/,
    'help nothing': /unknown command "nothing"/,
    __proto__: /unknown command/,
    '--__proto__': /unknown option/,
    '--constructor=1': /unknown option --constructor/,
  }
  for (const [line, told] of Object.entries(cases)) t.match(refusal(line), told, line)
})

t.test('the environment may hold the whole argument list', async (t) => {
  const list = JSON.stringify(['from-url', 'http://x/c', '-f', 'toml'])
  const command = run({ kind: 'url', url: 'http://x/c' }, { format: 'toml' })
  t.same(read('', { FAIRLEAD: list }), command)
  t.same(read('', { GOBETWEEN: list }), command)
  t.same(read('-c a', { GOBETWEEN: '' }), run(file('a')))
  t.match(refusal('-c a', { GOBETWEEN: list }), /drop the arguments or unset GOBETWEEN/)
  t.match(refusal('', { GOBETWEEN: list, FAIRLEAD: list }), /both FAIRLEAD and GOBETWEEN are set/)
  for (const wrong of ['-c a', '{}', '[1]', '"x"'])
    t.match(refusal('', { FAIRLEAD: wrong }), /JSON list of strings/)
})

t.test('a pid file holds the process id and is removed by its owner only', async (t) => {
  const folder = t.testdir({})
  const path = join(folder, 'pid')
  writePidfile(path)
  t.equal(readFileSync(path, 'utf8'), String(process.pid))
  t.same(readdirSync(folder), ['pid'])
  writeFileSync(path, '1')
  removePidfile(path)
  t.ok(existsSync(path))
  writeFileSync(path, String(process.pid))
  removePidfile(path)
  t.notOk(existsSync(path))
  removePidfile(path)
})

t.test('a pid file of a living process is kept, that of a dead one is not', async (t) => {
  const path = join(t.testdir({ pid: '' }), 'pid')
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  await once(child, 'spawn')
  writeFileSync(path, `${child.pid}\n`)
  t.throws(() => writePidfile(path), {
    message: `Unable to write pidfile ${path}: process with pid ${child.pid} is still running`,
  })
  child.kill('SIGKILL')
  await once(child, 'exit')
  writePidfile(path)
  t.equal(readFileSync(path, 'utf8'), String(process.pid))
  writeFileSync(path, 'not a pid')
  t.throws(() => writePidfile(path), { message: /does not hold a process id/ })
  t.throws(() => writePidfile(join(path, 'below')), { code: 'PIDFILE', message: /ENOTDIR/ })
})

t.test('check says what it found and with what status to end', async (t) => {
  const good = '[servers.web]\nbind = ":80"\ndiscovery = { kind = "static", static_list = [] }\n'
  const folder = t.testdir({
    'good.toml': good,
    'odd.toml': good + 'x = 1\n',
    'bad.toml': '[servers.web]\nbind = 1',
    'none.toml': '',
    'portable.toml': `plane = "portable"\n${good}tcp.mark = 7\n`,
    'own.toml': `plane = "auto"\n${good}protocol = "udp"\nplane = "portable"\nudp.transparent = true\n`,
    'fits.toml': `plane = "portable"\n${good}tcp.source = "127.0.0.1"\n`,
  })
  const check = async (name: string, strict = false) => {
    const lines: string[] = []
    const source = { origin: { kind: 'file' as const, path: join(folder, name) }, substitute: false }
    const status = await runCheck({ source, strict }, (line) => lines.push(line))
    return { status, said: lines.join('\n').replaceAll(folder + '/', '') }
  }
  t.same(await check('good.toml'), { status: 0, said: 'good.toml: ok, 1 server' })
  t.same(await check('none.toml'), { status: 0, said: 'none.toml: ok, 0 servers' })
  t.same(await check('odd.toml'), {
    status: 0,
    said: 'warning: servers.web.x: is not a known setting\nodd.toml: ok, 1 server',
  })
  t.same(await check('odd.toml', true), {
    status: 2,
    said: 'odd.toml has 1 problem\n  servers.web.x: is not a known setting',
  })
  const lack = (key: string) => `server web needs the native plane for ${key}, and has the portable one`
  for (const [name, key] of [
    ['portable.toml', 'tcp.mark'],
    ['own.toml', 'udp.transparent'],
  ] as const) {
    t.same(await check(name), { status: 0, said: `warning: ${lack(key)}\n${name}: ok, 1 server` })
    t.same(await check(name, true), { status: 2, said: `warning: ${lack(key)}` })
  }
  t.same(await check('fits.toml', true), { status: 0, said: 'fits.toml: ok, 1 server' })
  t.match(await check('bad.toml'), {
    status: 2,
    said: /bad.toml has 2 problems\n {2}servers.web.bind: .*\n {2}servers.web.discovery: /,
  })
  t.match(await check('gone.toml'), {
    status: 2,
    said: /gone.toml has 1 problem\n {2}cannot be read: ENOENT/,
  })
})
