// The backend that answers soonest.

import { balancer } from './balancer.ts'
import { PeakAverage } from './peak.ts'
import { leastBy } from './scan.ts'

/** A failed dial counts as having taken at least this long, however fast it was refused. */
const FAILED_MS = 1000

/** Far above any time measured: a backend nobody has heard of yet, which already has a client to find out. */
const UNTRIED = 1e150

/**
 * The least expected time: moving averages of connect time and time to the first byte, together, times flows
 * with the new one counted, per weight. After Finagle's peak EWMA. A backend without a measurement is given
 * one client at once and more when that one is connected.
 */
export const leasttime = balancer({ weighted: true, report: true }, (_settings, { clock }) => {
  const connect = (row: number) => 2 * row
  const firstByte = (row: number) => 2 * row + 1
  const average = new PeakAverage(clock)
  const least = leastBy((rows, { slots, weight }, scores) => {
    const times = average.scaled(2 * weight.length)
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!
      const held = slots[row]!
      const time = times[2 * row]! + times[2 * row + 1]!
      const expected = time > 0 ? time : held > 0 ? UNTRIED : 0
      scores[i] = (expected * (held + 1)) / weight[row]!
    }
  })
  return {
    elect: (_key, electable) => least(electable),
    connected: (row, ms) => average.add(connect(row), ms),
    firstByte: (row, ms) => average.add(firstByte(row), ms),
    failed: (row, ms) => average.add(connect(row), Math.max(ms, FAILED_MS)),
    forget(row) {
      average.clear(connect(row))
      average.clear(firstByte(row))
    },
  }
})
