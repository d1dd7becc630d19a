import { execFileSync } from 'node:child_process'
import {
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Fixture, Section } from './fixture.ts'

const LOCAL = 'a file is read at once'

function written(t: Test, text: string, name = 'backends'): Section {
  return { file_path: join(t.testdir({ [name]: text }), name) }
}

/** Watches this process holds, as the kernel counts them. */
function watches(): number {
  return readdirSync('/proc/self/fd')
    .filter((fd) => linkOf(`/proc/self/fd/${fd}`).includes('inotify'))
    .map((fd) => readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').split('inotify wd').length - 1)
    .reduce((sum, count) => sum + count, 0)
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

export const fixture: Fixture = {
  lists: async (t) => written(t, 'a:80 weight=2\n\nb:81\n'),
  empty: async (t) => ({ file_path: t.testdir() }),
  garbage: async (t) => ({
    section: written(t, 'junk\na:80 weight=2\nb:81 colour=red\n'),
    rejected: [
      /^backends line 1: expected .*, got "junk"$/,
      /^backends line 3: expected .*, got "colour=red"$/,
    ],
  }),
  async fails(t) {
    const dir = t.testdir({ 'list.json': '{}' })
    execFileSync('mkfifo', [join(dir, 'pipe')])
    return [
      { section: { file_path: join(dir, 'none') }, message: /none cannot be read: no such file/ },
      { section: { file_path: join(dir, 'pipe') }, message: /expected a file or a folder, got a pipe/ },
      { section: { file_path: '/dev/null' }, message: /expected a file or a folder, got a device/ },
      { section: { file_path: join(dir, 'list.json') }, message: /list.json: expected a list of elements/ },
    ]
  },
  hangs: LOCAL,
  slow: LOCAL,
  async huge(t) {
    const dir = t.testdir()
    execFileSync('truncate', ['-s', '100M', join(dir, 'backends')])
    return { section: { file_path: dir }, message: /more than 16 MiB to read/, over: () => true }
  },
  async changes(t) {
    const parent = t.testdir({ pool: { first: 'a:80 weight=2\nb:81\n' } })
    const dir = join(parent, 'pool')
    const before = watches()
    return {
      section: { file_path: dir },
      change() {
        mkdirSync(dir, { recursive: true })
        writeFileSync(join(dir, '.next'), 'c:82\n')
        renameSync(join(dir, '.next'), join(dir, 'second'))
      },
      cut() {
        rmSync(dir, { recursive: true })
        mkdirSync(dir)
        writeFileSync(join(dir, 'first'), 'a:80 weight=2\nb:81\n')
      },
      over: () => watches() <= before,
    }
  },
  wrong: { file_path: '' },
}
