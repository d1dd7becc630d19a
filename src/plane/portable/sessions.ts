// A server's open sockets for datagrams on this plane, and the sessions of those that send to them.

import type { RemoteInfo } from 'node:dgram'
import { allowed } from '../../access/boundaries.ts'
import type { Address } from '../../core/address.ts'
import type { Cancel } from '../../core/clock.ts'
import { canonicalIp, ipBytes } from '../../core/ip.ts'
import type { Ending } from '../../core/reasons.ts'
import { NO_DROPS } from '../plane.ts'
import type { AccessTable, DatagramSpec, Desk, Drops, Listening, ListenSpec } from '../plane.ts'
import type { Deadlines } from './deadlines.ts'
import { Door } from './door.ts'
import type { Hall } from './door.ts'
import { openDoors } from './doors.ts'
import type { Doors } from './doors.ts'
import { Elders } from './elders.ts'
import type { Client, House } from './house.ts'
import { Register } from './register.ts'
import { Session } from './session.ts'
import { Shots } from './shots.ts'

/** Sessions that may wait for an answer of the desk. */
const MOST_HELD = 1024
/** Sessions that one newcomer evicts at most: a limit that falls makes no turn long. */
const MOST_EVICTED = 8
/** Datagrams that may come before the desk can be asked. */
const MOST_EARLY = 64
/** How often the addresses of this machine are looked at, for wildcards. */
const REFRESH_MS = 2_000

interface Early {
  readonly door: Door
  readonly bytes: Uint8Array
  readonly from: RemoteInfo
}

export class PortableSessions extends Register<Session> implements Listening, Hall, House {
  readonly datagrams: DatagramSpec
  readonly byIp: boolean
  readonly elders = new Elders<Session>()
  readonly shots: Shots
  holding = 0
  readonly #binds: Doors[] = []
  readonly #drops = { ...NO_DROPS }
  #early: Early[] | undefined = []
  #open = 0
  /** 0 is without limit. */
  #most: number
  #lastFlow = 0
  #draining = false
  #unwatch: Cancel | undefined
  #stopped: Promise<void> | undefined

  constructor(spec: ListenSpec, datagrams: DatagramSpec, desk: Desk, deadlines: Deadlines) {
    super(spec, desk, deadlines)
    this.datagrams = datagrams
    this.byIp = datagrams.sessionKey === 'ip'
    this.#most = datagrams.maxSessions
    this.shots = new Shots(spec.sockets?.source, () => this.unsent())
  }

  /** Takes datagrams sent to `bind`; the desk hears of them after `welcome`. Rejects as `openBind` does. */
  async open(bind: Address): Promise<void> {
    const index = this.#binds.length
    const { receiveBuffer } = this.datagrams
    const doors = await openDoors(bind, receiveBuffer, (socket) => new Door(this, index, socket))
    this.#binds.push(doors)
    if (doors.wildcard) this.#unwatch ??= this.deadlines.clock.every(REFRESH_MS, () => this.#refresh())
  }

  /** The desk may be asked from now on. */
  welcome(): void {
    const early = this.#early ?? []
    this.#early = undefined
    for (const { door, bytes, from } of early) door.take(bytes, from)
  }

  /** Closes everything, unasked; for a listening that never came to be. */
  async abandon(): Promise<void> {
    this.#draining = true
    this.#early = undefined
    await this.#close()
  }

  get addresses(): readonly string[] {
    return this.#binds.map(({ text }) => text)
  }

  drops(): Drops {
    return { ...this.#drops }
  }

  limitSessions(most: number): void {
    this.#most = most
  }

  drain(): Promise<void> {
    this.#draining = true
    return Promise.resolve()
  }

  stop(reason: Ending): Promise<void> {
    return (this.#stopped ??= this.#stop(reason))
  }

  now(): number {
    return this.deadlines.clock.now()
  }

  stranger(door: Door, key: string, bytes: Uint8Array, from: RemoteInfo): void {
    if (this.#early && !this.#draining) return this.#wait({ door, bytes, from })
    const ip = canonicalIp(from.address)
    const why = this.#bar(ip)
    if (why) this.#drops[why]++
    else this.#begin({ door, key, ip, address: from.address }, from.port, bytes)
  }

  left(): void {
    this.#open--
  }

  undecided(): void {
    this.#drops.undecided++
  }

  unsent(): void {
    this.#drops.send++
  }

  complain(door: Door, problem: string): void {
    this.#complain(this.#binds[door.bind]!, `a datagram could not be received: ${problem}`)
  }

  /** Why somebody new is not let in, unasked. */
  #bar(ip: string): keyof Drops | undefined {
    const { access } = this.datagrams
    if (this.#draining) return 'draining'
    if (access && !allows(access, ip)) return 'access'
    if (this.holding >= MOST_HELD || (this.#full && !this.elders.oldest(this.#most))) return 'undecided'
    return undefined
  }

  get #full(): boolean {
    return this.#most > 0 && this.#open >= this.#most
  }

  #makeRoom(): void {
    for (let i = 0; i < MOST_EVICTED && this.#full; i++) this.elders.oldest(this.#most)?.end('evicted')
  }

  #wait(early: Early): void {
    if (this.#early!.length < MOST_EARLY) this.#early!.push(early)
    else this.undecided()
  }

  #begin(client: Newcomer, port: number, bytes: Uint8Array): void {
    const { door, ip } = client
    const local = { localIp: door.ip, localPort: door.port, bind: door.bind, fd: -1 }
    const arrival = { flow: ++this.#lastFlow, ip, port, ...local }
    const now = this.now()
    this.turn.ask(() => {
      const answer = this.desk.arrived(arrival)
      if ('refuse' in answer) return
      this.#makeRoom()
      const session = new Session(this, client, arrival, now)
      this.#open++
      this.remember(session)
      session.request(bytes, port, now)
      session.take(answer)
    })
  }

  #refresh(): void {
    for (const doors of this.#binds)
      doors.refresh((problem) => this.#complain(doors, `an address cannot be listened on: ${problem}`))
  }

  #complain({ text }: Doors, problem: string): void {
    this.bursts.say(problem, () => `${text}: ${problem}`)
  }

  async #stop(reason: Ending): Promise<void> {
    this.#draining = true
    await this.endAll(reason)
    await this.#close()
  }

  async #close(): Promise<void> {
    this.#unwatch?.()
    this.shots.close()
    await Promise.all(this.#binds.map((doors) => doors.close()))
  }
}

interface Newcomer extends Client {
  readonly ip: string
}

/** The verdict of `access` on a canonical IP address. */
function allows({ ipv4, ipv6 }: AccessTable, ip: string): boolean {
  const bytes = ipBytes(ip)
  return bytes.length === 4 ? allowed(ipv4, 1, bytes) : allowed(ipv6, 4, bytes)
}
