// Entries of an answer that could not be used: the first hundred are named, the rest is counted.

const NAMED = 100
const LONGEST = 500

export class Rejects {
  readonly #named: string[] = []
  #more = 0

  /** Takes one in: where it stood, and what is wrong with it. */
  add(text: string): void {
    if (this.#named.length < NAMED) this.#named.push(text.slice(0, LONGEST))
    else this.#more++
  }

  /** What an answer says of them. */
  list(): readonly string[] {
    return this.#more > 0 ? [...this.#named, `and ${this.#more} more`] : this.#named
  }
}

/** How many entries such a list stands for. */
export function countOf(list: readonly string[]): number {
  const more = /^and (\d+) more$/.exec(list.at(-1) ?? '')?.[1]
  return more === undefined ? list.length : list.length - 1 + Number(more)
}
