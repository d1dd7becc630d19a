// How a discovery kind is put through the contract suite: one file a kind, named like it, exporting `fixture`.

import type { Test } from 'tap'

/** The keys of a section, without `kind`. */
export type Section = Record<string, unknown>

/** A section, and what is seen from the outside of the question it makes. */
export interface Asked {
  readonly section: Section
  /** The question has reached whom it asks. */
  readonly begun: () => boolean
  /** Everything the question started is gone. */
  readonly over: () => boolean
}

export interface Failing {
  readonly section: Section
  /** What the error says. */
  readonly message: RegExp
}

/** Each gives a section for its case; a sentence says why a case does not apply. */
export interface Fixture {
  /** Lists two backends. */
  readonly lists: (t: Test) => Promise<Section>
  /** Those two, as `host:port weight`; unset: `a:80 2` and `b:81 1`. */
  readonly listed?: readonly [string, string]
  readonly empty: (t: Test) => Promise<Section>
  /** Lists the first of the two among two entries that are no backends; what is said of each of those. */
  readonly garbage: ((t: Test) => Promise<{ section: Section; rejected: readonly [RegExp, RegExp] }>) | string
  /** Every way to fail: an error status, a refused connection, an answer that cannot be read … */
  readonly fails: ((t: Test) => Promise<readonly Failing[]>) | string
  /** Takes the question and never answers. */
  readonly hangs: ((t: Test) => Promise<Asked>) | string
  /** Begins an answer and goes on with it slowly, for ever. */
  readonly slow: ((t: Test) => Promise<Asked>) | string
  /** Answers with more than anybody has backends: refused with a message, soon, whatever the size. */
  readonly huge: ((t: Test) => Promise<Failing & Pick<Asked, 'over'>>) | string
  /** Lists the two, and a third, `c:82` or alike, after `change`; the watch is told of it. */
  readonly changes: ((t: Test) => Promise<Changing>) | string
  /** Sections that are wrong: the keys with their wrong values, each of which must be named. */
  readonly wrong: Section
}

export interface Changing {
  readonly section: Section
  readonly change: () => Promise<void> | void
  /** Cuts the connection that tells of changes; new ones are let in. */
  readonly cut?: () => Promise<void> | void
  /** No connection of a watch is open. */
  readonly over: () => boolean
}
