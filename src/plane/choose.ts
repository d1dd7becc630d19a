// Which plane moves the bytes of a server, and why.

import { availableParallelism } from 'node:os'
import type { General } from '../config/schema.ts'
import type { Clock } from '../core/clock.ts'
import { UnsupportedError } from '../core/errors.ts'
import { logger } from '../core/log.ts'
import { loadAddon } from './native/load.ts'
import type { Lack, Loaded } from './native/load.ts'
import { nativePlane } from './native/plane.ts'
import type { Plane } from './plane.ts'
import { portablePlane } from './portable/plane.ts'

export type PlaneSetting = General['plane']

/** The planes of a process. */
export interface Planes {
  /** What a server gets that asks for none. */
  readonly usual: Plane['name']
  /**
   * The plane for a server that asks for `setting`, or for none. A plane is made, and logged with the reason, when
   * the first server wants it. Throws `UnsupportedError`, which names the server, when there is no such plane.
   */
  of(server: string, setting: PlaneSetting | undefined): Plane
}

/** Most threads where nobody says how many; the one that decides is busy then. */
const MOST_THREADS = 8

/** How many threads the native plane has. */
export function threadsOf(setting: number): number {
  return setting > 0 ? setting : Math.min(availableParallelism(), MOST_THREADS)
}

/** The native plane as it is logged: its size and its binary. */
export function nativeText(threads: number, from: string): string {
  return `${threads === 1 ? '1 thread' : `${threads} threads`}, ${from}`
}

/** What a test would know better. */
export interface Means {
  readonly load?: typeof loadAddon
  readonly make?: typeof nativePlane
}

/** The planes for `plane` and `plane_threads` of a configuration; nothing is made yet. */
export function choosePlanes(
  { plane, plane_threads }: Pick<General, 'plane' | 'plane_threads'>,
  clock: Clock,
  means: Means = {},
): Planes {
  return new Chooser(plane, threadsOf(plane_threads), clock, means)
}

/** Throws what a server that asks for the native plane would be told, where its addon cannot be loaded. Makes nothing. */
export function requireNative(server: string): void {
  const loaded = loadAddon()
  if (!('addon' in loaded)) throw refusal(server, loaded)
}

const log = logger('plane')

class Chooser implements Planes {
  readonly #setting: PlaneSetting
  readonly #threads: number
  readonly #clock: Clock
  readonly #load: () => Loaded
  readonly #make: typeof nativePlane
  #loaded: Loaded | undefined
  #native: Plane | undefined
  #portable: Plane | undefined

  constructor(setting: PlaneSetting, threads: number, clock: Clock, { load, make }: Means) {
    this.#setting = setting
    this.#threads = threads
    this.#clock = clock
    this.#load = load ?? loadAddon
    this.#make = make ?? nativePlane
  }

  get usual(): Plane['name'] {
    return this.#setting !== 'portable' && 'addon' in this.#addon() ? 'native' : 'portable'
  }

  of(server: string, setting = this.#setting): Plane {
    if (setting === 'portable') return this.#getPortable('the configuration asks for it')
    const native = this.#getNative()
    if ('listen' in native) return native
    if (setting === 'native') throw refusal(server, native)
    return this.#getPortable(`the native one cannot be used: ${native.why}`)
  }

  #addon(): Loaded {
    return (this.#loaded ??= this.#load())
  }

  #getNative(): Plane | Lack {
    if (this.#native) return this.#native
    const loaded = this.#addon()
    if (!('addon' in loaded)) return loaded
    try {
      this.#native = this.#make(loaded.addon, { threads: this.#threads, clock: this.#clock })
    } catch (error) {
      if (!(error instanceof UnsupportedError)) throw error
      return (this.#loaded = { why: error.message })
    }
    log.info(`native plane: ${nativeText(this.#threads, loaded.from)}`)
    return this.#native
  }

  #getPortable(why: string): Plane {
    if (!this.#portable) {
      log.info(`portable plane: ${why}`)
      this.#portable = portablePlane()
    }
    return this.#portable
  }
}

function refusal(server: string, { why, remedy }: Lack): UnsupportedError {
  const advice = remedy ? `${remedy}, or set plane = "auto"` : 'set plane = "auto"'
  return new UnsupportedError(
    `server ${server} needs the native plane, which cannot be used: ${why}; ${advice}`,
  )
}
