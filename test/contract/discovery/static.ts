import type { Fixture } from './fixture.ts'

const WRITTEN = 'a list that is written down'

export const fixture: Fixture = {
  lists: async () => ({ static_list: ['a:80 weight=2', 'b:81'] }),
  empty: async () => ({ static_list: [] }),
  garbage: async () => ({
    section: { static_list: ['junk', 'a:80 weight=2', 'b:81 colour=red'] },
    rejected: [/^static_list\[0\]: expected .*, got "junk"$/, /^static_list\[2\]: .*, got "colour=red"$/],
  }),
  fails: `${WRITTEN} cannot fail`,
  hangs: `${WRITTEN} cannot hang`,
  slow: `${WRITTEN} is there at once`,
  huge: `${WRITTEN} is as long as the configuration`,
  changes: `${WRITTEN} does not change`,
  wrong: { static_list: 'a:80' },
}
