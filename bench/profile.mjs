// What a proxy does while it is driven, by perf or strace.

import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { LOAD_CPU, processes, start } from './machine.mjs'
import { folder } from './programs.mjs'

export const PROFILERS = ['record', 'strace']
const TOP = 30
const CALLS = 12

/**
 * Does `work` with a profiler attached to a target and prints the top lines: functions for `record`, whose file is
 * kept for `perf report -g`, system calls for `strace`. The figures of such a round are worth nothing.
 */
export async function profiled(how, { name, pid }, key, work) {
  const pids = processes(pid)
  const file = how === 'record' ? `${tmpdir()}/fairlead-${name}-${key}.perf` : `${folder}/strace`
  const [command, args] =
    how === 'record'
      ? ['perf', ['record', '-q', '-g', '-F', '1999', '-o', file, '-p', pids.join()]]
      : ['strace', ['-c', '-f', '-S', 'calls', '-o', file, ...pids.flatMap((pid) => ['-p', String(pid)])]]
  // strace stops the proxy at every call: it shall be on the proxy's processor no more than it must.
  const profiler = start(command, args, { cpu: LOAD_CPU, stdio: 'ignore', ending: 'SIGINT' })
  const gone = once(profiler, 'exit')
  await Promise.race([sleep(1_000), gone.then(() => Promise.reject(new Error(`${command} has ended`)))])
  await work()
  profiler.kill('SIGINT')
  await gone
  const where = how === 'record' ? `; more: perf report -g -i ${file}` : ''
  console.log(`\n${command} of ${name}, ${key}${where}\n\n${top(how, file)}`)
}

function top(how, file) {
  if (how === 'strace') return lines(readFileSync(file, 'utf8')).join('\n')
  const report = (...args) =>
    lines(
      String(
        execFileSync('perf', ['report', '--stdio', '-q', '-g', 'none', '-i', file, ...args], {
          stdio: ['ignore', 'pipe', 'ignore'],
          maxBuffer: 2 ** 26,
        }),
      ),
    )
  const calls = report('--children', '--fields', 'overhead_children,symbol').filter((line) =>
    / (__x64_sys_|__arm64_sys_|ksys_(read|write))/.test(line),
  )
  const functions = report('--no-children', '--fields', 'overhead,comm,dso,symbol')
  return `system calls, with all they do:\n\n${calls.slice(0, CALLS).join('\n')}\n\nfunctions, by themselves:\n
${functions.slice(0, TOP).join('\n')}`
}

function lines(text) {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .filter(Boolean)
}
