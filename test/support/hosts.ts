// The hosts of scripts/components/datagrams.sh, each with a program on it that asks and answers as it is told.

import { execFile, spawn } from 'node:child_process'
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import type { HostPort } from '../../src/core/address.ts'
import type { Plane } from '../../src/plane/plane.ts'
import { whyNot } from './component.ts'
import { folder } from './folder.ts'
import { Launched } from './launched.ts'
import { until } from './until.ts'

const run = promisify(execFile)
const SCRIPT = fileURLToPath(new URL('../../scripts/components/datagrams.sh', import.meta.url))
const COMMAND = fileURLToPath(new URL('../../bin/fairlead', import.meta.url))
const PROGRAM = fileURLToPath(new URL('hosttalk.mjs', import.meta.url))

export type HostName = 'client' | 'far' | 'hop' | 'balancer' | 'backend' | 'deep'

/** How a host takes in what is for clients. */
export type Way = 'iif' | 'iptables' | 'nft'

/** A question: so many bytes, the answer to which has so many. */
export interface Question {
  readonly to: HostPort
  /** Where it comes from: a free port unless said otherwise. One that asks from a place again has the same socket. */
  readonly from?: HostPort
  readonly bytes?: number
  readonly answer?: number
  /** When it is asked again if nothing came; ms, 250 unless said otherwise. */
  readonly again?: number
}

/** What an answer says, and how it came. */
export interface Answered {
  /** Who answered, */
  readonly host: HostName
  /** and from which of its ports; */
  readonly port: number
  /** whom it has seen: address and port; */
  readonly saw: string
  /** bytes of the question, */
  readonly asked: number
  /** and of the answer; */
  readonly bytes: number
  /** where that came from; */
  readonly from: string
  /** how often it was asked until it came. */
  readonly tries: number
}

/** A host, and what can be asked of the program on it: hosttalk.mjs. */
export class Host {
  readonly name: HostName
  readonly #child: ChildProcessWithoutNullStreams
  readonly #waiting = new Map<number, (told: { error?: string }) => void>()
  #last = 0

  constructor(name: HostName, child: ChildProcessWithoutNullStreams) {
    this.name = name
    this.#child = child
    child.stdin.on('error', () => {})
    child.stderr.resume()
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { id, ...told } = JSON.parse(line) as { id: number; error?: string }
      this.#waiting.get(id)?.(told)
      this.#waiting.delete(id)
    })
  }

  /** Asks, again and again, until there is an answer. */
  async ask({ from, ...question }: Question): Promise<Answered> {
    return (await this.#tell('ask', { from: from ?? anywhere(question.to), ...question })) as Answered
  }

  /** Sends a question once and forgets it. */
  async say({ from, ...question }: Question): Promise<void> {
    await this.#tell('ask', { from: from ?? anywhere(question.to), ...question, once: true })
  }

  /** Answers what comes there. */
  async serve(...places: readonly HostPort[]): Promise<void> {
    for (const at of places) await this.#tell('serve', { at })
  }

  /** Nobody is there any more. */
  async leave(at: HostPort): Promise<void> {
    await this.#tell('leave', { at })
  }

  /** All questions that came in. */
  async heard(): Promise<readonly { saw: string; bytes: number }[]> {
    return ((await this.#tell('heard', {})) as { heard: { saw: string; bytes: number }[] }).heard
  }

  async #tell(verb: string, what: object): Promise<object> {
    const id = ++this.#last
    let told: { error?: string } | undefined
    this.#waiting.set(id, (each) => (told = each))
    this.#child.stdin.write(JSON.stringify({ id, verb, ...what }) + '\n')
    await until(
      () => told !== undefined || this.#child.exitCode !== null,
      `${this.name}: ${verb} ${JSON.stringify(what)}`,
      20_000,
    )
    if (!told || told.error) throw new Error(`${this.name}: ${told?.error ?? 'it has ended'}`)
    return told
  }
}

/** A free port of whatever address the system thinks fit. */
function anywhere({ host }: HostPort): HostPort {
  return { host: host.includes(':') ? '::' : '0.0.0.0', port: 0 }
}

/** The hosts of one test. */
export class Hosts {
  readonly #t: Test
  readonly #dir: string
  readonly #hosts = new Map<HostName, Host>()

  constructor(t: Test, dir: string) {
    this.#t = t
    this.#dir = dir
  }

  /** Starts the program on a host, unless it runs there. */
  on(name: HostName): Host {
    const running = this.#hosts.get(name)
    if (running) return running
    const child = spawn(SCRIPT, this.#argv(name, [process.execPath, PROGRAM, name]))
    this.#t.teardown(() => gone(child))
    const host = new Host(name, child)
    this.#hosts.set(name, host)
    return host
  }

  /** Runs a program to its end; what it wrote. */
  async run(name: HostName, ...argv: string[]): Promise<string> {
    return (await run(SCRIPT, this.#argv(name, argv))).stdout.trim()
  }

  /** Starts a program on a host and resolves when it has said `ready`. */
  async start(name: HostName, ready: string, ...argv: string[]): Promise<Launched> {
    const launched = new Launched(spawn(SCRIPT, this.#argv(name, argv)))
    this.#t.teardown(async () => {
      launched.signal('SIGKILL')
      await launched.exit()
    })
    await launched.says(ready)
    return launched
  }

  /** Starts the balancer. */
  balance(plane: Plane['name'], servers: object): Promise<Launched> {
    const config = join(this.#dir, 'config.json')
    writeFileSync(config, JSON.stringify({ plane, plane_threads: 2, servers }))
    return this.start('balancer', 'Initialized', COMMAND, '-c', config)
  }

  // tap loads itself into every Node its tests start.
  #argv(host: HostName, argv: readonly string[]): string[] {
    return ['exec', this.#dir, host, 'env', '-u', 'NODE_OPTIONS', ...argv]
  }
}

async function gone(child: ChildProcessWithoutNullStreams): Promise<void> {
  child.kill('SIGKILL')
  await until(() => child.exitCode !== null || child.signalCode !== null, 'the end of a host')
}

/** Makes the hosts; those, or why there are none. */
export async function hosts(t: Test, way: Way = 'iif'): Promise<Hosts | string> {
  const dir = folder(t)
  t.teardown(() => run(SCRIPT, ['stop', dir]))
  try {
    await run(SCRIPT, ['start', dir, way])
    return new Hosts(t, dir)
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string }
    return whyNot({ status: code, stderr }) || 'it has no hosts'
  }
}
