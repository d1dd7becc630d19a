// fairlead as a process: any arguments, environment and limits; what it wrote, and how it ended.

import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { folder } from './folder.ts'
import { until } from './until.ts'

const COMMAND = fileURLToPath(new URL('../../bin/fairlead', import.meta.url))

export interface Launch {
  /** Arguments; without them `-c` on `config`. */
  args?: readonly string[]
  /** A document for a file `config.json`, or text for `config.toml`. */
  config?: object | string
  env?: NodeJS.ProcessEnv
  /** Most descriptors it may open. */
  descriptors?: number
}

export class Launched {
  readonly child: ChildProcess
  output = ''
  /** The exit status, or the signal that ended it; undefined while it runs. */
  ended: number | string | undefined

  constructor(child: ChildProcess) {
    this.child = child
    for (const stream of [child.stdout!, child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => (this.output += text))
    // `close`, not `exit`: by then its output is here too.
    child.on('close', (code, signal) => (this.ended = code ?? signal ?? 'unknown'))
  }

  /** Resolves when the output holds `text`. */
  async says(text: string): Promise<void> {
    await until(() => this.output.includes(text) || this.ended !== undefined, `${text} in:\n${this.output}`)
    if (!this.output.includes(text)) throw new Error(`ended without ${JSON.stringify(text)}:\n${this.output}`)
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  async exit(): Promise<number | string> {
    await until(() => this.ended !== undefined, `the end of fairlead, which wrote:\n${this.output}`, 20_000)
    return this.ended!
  }

  /** The port that stands at the end of the line about `listener`. */
  port(listener: string): number {
    const line = this.output
      .split('\n')
      .find(
        (each) =>
          [' ', '"'].some((before) => each.includes(before + listener)) && /listening on|API on/.test(each),
      )
    const port = line && /:(\d+)\D*$/.exec(line)?.[1]
    if (!port) throw new Error(`expected the port of ${listener} in:\n${this.output}`)
    return Number(port)
  }
}

/** Starts `bin/fairlead` without waiting for anything. Ended, and its files gone, with the test. */
export function launch(t: Test, { args, config, env = {}, descriptors }: Launch): Launched {
  if (!existsSync(fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))))
    throw new Error('fairlead is not built: run `npm run build`')
  const file = join(folder(t), typeof config === 'string' ? 'config.toml' : 'config.json')
  if (config !== undefined) writeFileSync(file, typeof config === 'string' ? config : JSON.stringify(config))
  const argv = [COMMAND, ...(args ?? ['-c', file]).map((each) => each.replace('CONFIG', file))]
  const limited = descriptors ? ['sh', '-c', `ulimit -n ${descriptors}; exec "$@"`, 'sh', ...argv] : argv
  // tap loads itself into every Node its tests start; this one is to be as operators have it.
  const { NODE_OPTIONS: _, ...inherited } = process.env
  const mine = Object.fromEntries(
    Object.entries(env).map(([key, value]) => [key, value?.replace('CONFIG', file)]),
  )
  const child = spawn('/usr/bin/env', ['-u', 'NODE_OPTIONS', ...limited], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...inherited, FAIRLEAD: '', GOBETWEEN: '', ...mine },
  })
  const launched = new Launched(child)
  t.teardown(async () => {
    if (launched.ended === undefined) child.kill('SIGKILL')
    await launched.exit()
  })
  return launched
}

/** Starts it and resolves when every server of its config listens. */
export async function launchReady(t: Test, launch_: Launch): Promise<Launched> {
  const launched = launch(t, launch_)
  await launched.says('Initialized')
  return launched
}
