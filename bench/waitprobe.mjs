// Loaded into fairlead by `decision.mjs` (`node --import`): counts how long flows waited for their last dial. A
// histogram of plain numbers, so that counting costs nothing that could be seen in what it counts.

import { Admission } from '../dist/server/admission.js'

const STEP_MS = 0.01
const STEPS = 100_000
/** How many flows waited so many steps; the last place is for all that waited longer. */
const counts = new Uint32Array(STEPS)
let longest = 0

const { ended } = Admission.prototype
Admission.prototype.ended = function (end) {
  const { waitedMs } = end
  if (waitedMs >= 0) {
    counts[Math.min(STEPS - 1, Math.floor(waitedMs / STEP_MS))]++
    if (waitedMs > longest) longest = waitedMs
  }
  return ended.call(this, end)
}

// Tells what was counted since it told the last time.
process.on('message', () => {
  const flows = counts.reduce((sum, count) => sum + count, 0)
  process.send({ flows, p50: below(0.5, flows), p99: below(0.99, flows), p999: below(0.999, flows), longest })
  counts.fill(0)
  longest = 0
})
process.channel.unref()

/** The upper end of the step below which the share `p` of the waits lies. */
function below(p, flows) {
  let at = 0
  for (let passed = counts[0]; passed < flows * p; passed += counts[at]) at++
  return (at + 1) * STEP_MS
}
