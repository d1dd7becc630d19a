// Who is evicted when sessions are too many. Those that no backend has answered yet have an eighth of all places: a
// flood of strangers takes no more from the answered, and among these a new client has time for its answer.
//
//      never answered   oldest ⇄ ... ⇄ newest       first to go while they are more than their share
//      answered         oldest ⇄ ... ⇄ newest       first to go otherwise

/** Of all places, what those never answered may have at least: one of so many. */
const SHARE = 8

/** Stands in a queue; the fields belong to that. */
export interface Aged<T> {
  queue: Queue<T> | null
  older: T | null
  newer: T | null
}

interface Queue<T> {
  oldest: T | null
  newest: T | null
  length: number
}

export class Elders<T extends Aged<T>> {
  readonly #unanswered: Queue<T> = { oldest: null, newest: null, length: 0 }
  readonly #answered: Queue<T> = { oldest: null, newest: null, length: 0 }

  /** Whom to evict for a newcomer, where there are `most` places; null when there is nobody. */
  oldest(most: number): T | null {
    const { oldest: stranger, length } = this.#unanswered
    const { oldest: answered } = this.#answered
    const strangers = length + 1 // with the newcomer
    return strangers > Math.ceil(most / SHARE) ? (stranger ?? answered) : (answered ?? stranger)
  }

  /** The newest from now on, of those that have had an answer or of the others. */
  touch(session: T, answered: boolean): void {
    const queue = answered ? this.#answered : this.#unanswered
    if (queue.newest === session) return
    this.remove(session)
    session.queue = queue
    session.older = queue.newest
    if (queue.newest) queue.newest.newer = session
    else queue.oldest = session
    queue.newest = session
    queue.length++
  }

  /** Is not evicted any more. Twice is fine. */
  remove(session: T): void {
    const { queue, older, newer } = session
    if (!queue) return
    if (older) older.newer = newer
    else queue.oldest = newer
    if (newer) newer.older = older
    else queue.newest = older
    queue.length--
    session.queue = session.older = session.newer = null
  }
}
