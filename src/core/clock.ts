// Time and chance come in through this door, so that tests need not wait.

/** Cancels what was scheduled; a second call does nothing. */
export type Cancel = () => void

export interface Clock {
  /** Milliseconds on a clock that never steps back; its zero means nothing. */
  now(): number
  /** Milliseconds since 1970, for people. */
  date(): number
  /** Runs `action` once, `ms` from now. A pending action does not keep the process alive. */
  after(ms: number, action: () => void): Cancel
  /** Runs `action` every `ms` until cancelled. */
  every(ms: number, action: () => void): Cancel
  /** A number in [0, 1). */
  random(): number
}

// setTimeout holds 31 bits of milliseconds and fires at once beyond that.
const LONGEST = 2 ** 31 - 1

export const realClock: Clock = {
  now: () => performance.now(),
  date: () => Date.now(),
  after(ms, action) {
    const timer = setTimeout(action, Math.min(ms, LONGEST)).unref()
    return () => clearTimeout(timer)
  },
  every(ms, action) {
    const timer = setInterval(action, Math.min(ms, LONGEST)).unref()
    return () => clearInterval(timer)
  },
  random: Math.random,
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = () => {
      cancel()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const cancel = clock.after(ms, done)
    signal.addEventListener('abort', done)
  })
}
