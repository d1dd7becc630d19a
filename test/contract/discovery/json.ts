import { webFixture } from './web.ts'

export const fixture = webFixture({
  kind: 'json',
  list: '[{"host": "a", "port": 80, "weight": 2}, {"host": "b", "port": "81"}]',
  empty: ' [ ] ',
  garbage: '["junk", {"host": "a", "port": 80, "weight": 2}, {"host": "b", "port": 81.5}]',
  rejected: [
    /^\[0\]: expected a host at "host", got nothing$/,
    /^\[2\]: expected a port at "port", got 81.5$/,
  ],
  unreadable: [
    { body: '', message: /expected a list of elements at byte 1 .*, got the end/ },
    { body: '<html>', message: /expected a list of elements at byte 1 of the JSON, got "<html>"/ },
    { body: '{"message": "no"}', message: /expected a list of elements .* got "\{\\"message/ },
    { body: '[{"host": "a", "port": 80}, {"host": "b', message: /cut short/ },
    { body: '[{"host": "a", "port": 80},]', message: /expected a value at byte 28/ },
    { body: '[{"host": "a"}] x', message: /expected the end at byte 17/ },
    { body: '[{"host": "a", "port": 80]]', message: /cannot be read at|expected the end/ },
    { body: '[{"host": a, "port": 80}]', message: /cannot be read at \[0\]/ },
  ],
  wrong: { json_items_pattern: '[x]', json_host_pattern: '', json_port_pattern: 'ports.[a]' },
})
