// Prometheus' text format, version 0.0.4, gathered series by series.

import { Chunks } from './chunks.ts'

export type MetricType = 'counter' | 'gauge' | 'histogram'

/** Labels as they stand between the braces, escaped already. */
export type LabelText = string

/** All series of one name; the format wants them side by side. */
export class Family {
  readonly name: string
  readonly #chunks = new Chunks()

  constructor(name: string, type: MetricType, help: string) {
    this.name = name
    this.#chunks.add(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`)
  }

  /** One series; `suffix` is part of its name, as in `_bucket`. */
  add(labels: LabelText, value: number, suffix = ''): void {
    this.#chunks.add(`${this.name}${suffix}${labels && `{${labels}}`} ${value}\n`)
  }

  pieces(): readonly Buffer[] {
    return this.#chunks.pieces()
  }
}

/** `a="1",b="2"` with values escaped. */
export function labelText(labels: Readonly<Record<string, string>>): LabelText {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(',')
}

function escaped(value: string): string {
  return /[\\"\n]/.test(value)
    ? value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
    : value
}
