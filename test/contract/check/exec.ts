import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { hasEnded, script } from '../../support/scripts.ts'
import type { Case, Fixture, Section } from './fixture.ts'
import { at, local } from './servers.ts'

export function executing(path: string): Section {
  return { exec_command: path, exec_expected_positive_output: 'up', exec_expected_negative_output: 'down' }
}

function running(t: Test, body: string, reason: RegExp): Case {
  const path = script(t.testdir(), 'check', body)
  return { section: executing(path), target: at({ host: '10.0.0.1', port: 80 }), reason }
}

export const fixture: Fixture = {
  passes: async (t) => [running(t, 'test "$1:$2:$#" = 10.0.0.1:80:2 && echo up', /^printed "up"$/)],
  fails: async (t) => [running(t, 'printf "  down \\n"', /^printed "down"$/)],
  refused: async (t) => [
    running(t, 'echo up; echo no such table >&2; exit 2', /exited with status 2: no such table$/),
  ],
  async hangs(t) {
    const dir = t.testdir()
    const path = script(dir, 'check', 'sleep 60 & echo $! > $dir/child; echo $$ > $dir/self; wait')
    return {
      section: executing(path),
      target: at(local(80)),
      reason: /enough/,
      begun: () => existsSync(join(dir, 'self')),
      over: () => hasEnded(join(dir, 'self')) && hasEnded(join(dir, 'child')),
    }
  },
  stream: 'it has no connection',
  wrong: { section: executing('/bin/true'), keys: { exec_command: '' } },
}
