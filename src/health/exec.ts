// Healthy when a program says so: it is called with the backend's host and port.

import { hostText, isUnix, portText } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { run } from '../core/run.ts'
import { name, text } from '../core/settings.ts'
import { check, healthy, unhealthy } from './check.ts'
import { failure, unknown } from './dial.ts'

/** The most a program may print. */
const MOST_BYTES = 64 * 1024

export const exec = check(
  {
    settings: {
      exec_command: name().describe('Path of a program that is called with host and port of the backend.'),
      exec_expected_positive_output: text()
        .default('')
        .describe('Output that means healthy; blanks around it do not count.'),
      exec_expected_negative_output: text()
        .default('')
        .describe('Output that means unhealthy; any other output changes nothing.'),
    },
  },
  (settings) => {
    const positive = settings.exec_expected_positive_output.trim()
    const negative = settings.exec_expected_negative_output.trim()
    return {
      async run({ address }, signal) {
        const ran = run([settings.exec_command, ...subject(address)], signal, MOST_BYTES)
        const output = await ran.then((stdout) => ({ stdout: stdout.toString().trim() }), failure)
        if (!('stdout' in output)) return output
        const said = `printed ${quote(output.stdout)}`
        if (output.stdout === positive) return healthy(said)
        if (output.stdout === negative) return unhealthy(said)
        return unknown(`${said}, expected ${quote(positive)} or ${quote(negative)}`)
      },
    }
  },
)

/** Host and port as gobetween gives them; a unix socket's path and an empty port. */
function subject(address: Address): [string, string] {
  return isUnix(address) ? [address.path, ''] : [hostText(address), portText(address)]
}

function quote(output: string): string {
  return JSON.stringify(output.length > 100 ? output.slice(0, 100) + '…' : output)
}
