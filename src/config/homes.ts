// Where a key belongs that was written in the wrong section.

import { sections } from './reference.ts'

/** More places than this are no advice. */
const MOST = 3

let homes: Map<string, Set<string>> | undefined

/** The sections that know `key`, as an operator would name them; none when there are too many to help. */
export function homesOf(key: string): string[] {
  homes ??= collect()
  const found = [...(homes.get(key) ?? [])]
  return found.length > MOST ? [] : found
}

function collect(): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>()
  const add = (key: string, home: string) => found.set(key, (found.get(key) ?? new Set()).add(home))
  for (const [section, keys] of sections()) {
    const path = section.replace(/^(server\.\w+)\.\w+$/, '$1').replace(/^server/, 'servers.NAME')
    for (const { name } of keys) add(name, path === 'general' ? 'the top level' : path)
    const [, parent, name] = /^(.+)\.(\w+)$/.exec(path) ?? [undefined, 'the top level', path]
    add(name, parent)
  }
  return found
}
