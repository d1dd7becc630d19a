import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { hasEnded, script } from '../../support/scripts.ts'
import type { Asked, Fixture, Section } from './fixture.ts'

const listing = (t: Test, body: string) => command(t.testdir(), body)

function command(dir: string, body: string): Section {
  return { exec_command: [script(dir, 'list', body)] }
}

/** A program that says it has begun, and its child, which goes with it. */
async function staying(t: Test, first: string): Promise<Asked> {
  const dir = t.testdir()
  return {
    section: command(dir, `${first} sleep 60 & echo $! > $dir/child; echo $$ > $dir/self; wait`),
    // A file is there before what is written to it.
    begun: () => existsSync(join(dir, 'self')) && readFileSync(join(dir, 'self')).length > 0,
    over: () => hasEnded(join(dir, 'self')) && hasEnded(join(dir, 'child')),
  }
}

export const fixture: Fixture = {
  lists: async (t) => listing(t, 'echo a:80 weight=2; echo; echo b:81'),
  empty: async (t) => listing(t, 'true'),
  garbage: async (t) => ({
    section: listing(t, 'echo junk; echo a:80 weight=2; echo b:81 colour=red'),
    rejected: [/^line 1: expected .*, got "junk"$/, /^line 3: expected .*, got "colour=red"$/],
  }),
  fails: async (t) => [
    {
      section: listing(t, 'echo one >&2; echo cannot reach consul >&2; echo a:80; exit 3'),
      message: /list exited with status 3: one \| cannot reach consul$/,
    },
  ],
  hangs: (t) => staying(t, ''),
  slow: (t) => staying(t, 'echo a:80;'),
  huge: async (t) => {
    const dir = t.testdir()
    return {
      section: command(dir, 'echo $$ > $dir/self; exec yes a:80'),
      message: /wrote more than 1048576 bytes/,
      over: () => hasEnded(join(dir, 'self')),
    }
  },
  changes: 'a program is not heard of until it is run again',
  wrong: { exec_command: [] },
}
