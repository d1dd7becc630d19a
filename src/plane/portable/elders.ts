// Who is evicted when sessions are too many: one that no backend has answered, then one heard of longest ago.
//
//      never answered   oldest ⇄ ... ⇄ newest       first to go
//      answered         oldest ⇄ ... ⇄ newest

/** Stands in a queue; the fields belong to that. */
export interface Aged<T> {
  queue: Queue<T> | null
  older: T | null
  newer: T | null
}

interface Queue<T> {
  oldest: T | null
  newest: T | null
}

export class Elders<T extends Aged<T>> {
  readonly #unanswered: Queue<T> = { oldest: null, newest: null }
  readonly #answered: Queue<T> = { oldest: null, newest: null }

  /** Whom to evict; null when there is nobody. */
  get oldest(): T | null {
    return this.#unanswered.oldest ?? this.#answered.oldest
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
  }

  /** Is not evicted any more. Twice is fine. */
  remove(session: T): void {
    const { queue, older, newer } = session
    if (!queue) return
    if (older) older.newer = newer
    else queue.oldest = newer
    if (newer) newer.older = older
    else queue.newest = older
    session.queue = session.older = session.newer = null
  }
}
