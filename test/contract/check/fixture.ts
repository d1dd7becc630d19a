// How a health check is put through the contract suite: one file a kind, named like it, exporting `fixture`.

import type { Test } from 'tap'
import type { Result, Target } from '../../../src/health/check.ts'

/** The keys of a section, without `kind` and `interval`. */
export type Section = Record<string, unknown>

/** A section, whom it checks, and what is seen from the outside. */
export interface Case {
  readonly section: Section
  readonly target: Target
  /** What the reason says. */
  readonly reason: RegExp
  /** What else the result holds. */
  readonly more?: Omit<Result, 'status' | 'reason'>
  /** The check has reached whom it asks. */
  readonly begun?: () => boolean
  /** True when nothing the check began is left. */
  readonly over?: () => boolean | Promise<boolean>
}

/** Each makes its cases; a sentence says why one does not apply. */
type Cases<C = readonly Case[]> = ((t: Test) => Promise<C>) | string

export interface Fixture {
  /** Every way to be healthy. */
  readonly passes: Cases
  /** Every way for a backend that answers to be unhealthy. */
  readonly fails: Cases
  /** Nobody is there. */
  readonly refused: Cases
  /** Takes the question and never answers. */
  readonly hangs: Cases<Case>
  /**
   * A section for a backend on `port` of 127.0.0.1 that is asked over a stream: it is put before peers that close,
   * talk nonsense or never end.
   */
  readonly stream: ((port: number) => Section) | string
  /** Keys with wrong values, each of which must be named; in a section that is right but for them. */
  readonly wrong: { readonly section: Section; readonly keys: Section }
}
