import { webFixture } from './web.ts'

export const fixture = webFixture({
  kind: 'plaintext',
  list: 'a:80 weight=2\r\n\r\nb:81\n',
  empty: '\n \n',
  garbage: 'junk\na:80 weight=2\nb:81 colour=red',
  rejected: [/^line 1: expected .*, got "junk"$/, /^line 3: expected .*, got "colour=red"$/],
  unreadable: [],
  wrong: { plaintext_regex_pattern: '^(?P<host>.*)$' },
})
