// An electable from a plain list, for balancers to choose from.

import type { Columns, Electable } from '../../src/balance/balancer.ts'

export interface Row {
  text?: string
  weight?: number
  slots?: number
  limit?: number
  bandwidth?: number
  /** A member that is not electable. */
  full?: boolean
}

let versions = 0

/**
 * The rows of `list`, ordered by text. `row` says which row an index of the list has (itself, unless told);
 * `version` is a new one unless told.
 */
export function electable(
  list: readonly Row[],
  {
    row = (index: number) => index,
    version = ++versions,
  }: { row?: (index: number) => number; version?: number } = {},
): Electable {
  const size = list.reduce((most, _, i) => Math.max(most, row(i) + 1), 0)
  const columns: Columns & { text: string[] } = {
    text: new Array<string>(size).fill(''),
    weight: new Float64Array(size),
    slots: new Int32Array(size),
    limit: new Int32Array(size),
    bandwidth: new Float64Array(size),
  }
  list.forEach((each, i) => {
    columns.text[row(i)] = each.text ?? address(i)
    columns.weight[row(i)] = each.weight ?? 1
    columns.slots[row(i)] = each.slots ?? 0
    columns.limit[row(i)] = each.limit ?? 0
    columns.bandwidth[row(i)] = each.bandwidth ?? 0
  })
  const byText = (a: number, b: number) => (columns.text[a]! < columns.text[b]! ? -1 : 1)
  const sorted = (rows: number[]) => Int32Array.from(rows.sort(byText))
  const members = sorted(list.map((_, i) => row(i)))
  const rows = sorted(list.flatMap((each, i) => (each.full ? [] : [row(i)])))
  return view({ rows, members, version, columns, has: () => true }, () => true)
}

/** The same members, of which only those that pass are electable: backends that turned full, or were tried. */
export function view(from: Electable, passes: (row: number) => boolean): Electable {
  const rows = from.rows.filter(passes)
  const electable = new Uint8Array(from.columns.text.length)
  for (const row of rows) electable[row] = 1
  return { ...from, rows, has: (row) => electable[row] === 1 }
}

/** A distinct address for every number. */
export function address(i: number): string {
  return `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}:${8000 + (i % 7)}`
}
