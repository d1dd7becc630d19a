import type { Fixture } from './fixture.ts'

const nobody = 'it checks nobody'

export const fixture: Fixture = {
  passes: nobody,
  fails: nobody,
  refused: nobody,
  hangs: nobody,
  stream: nobody,
  wrong: { section: {}, keys: {} },
}
