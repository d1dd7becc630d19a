// The modules of the C plane by themselves, under the sanitizers of the compiler: what each says is a test here.

import { fileURLToPath } from 'node:url'
import t from 'tap'

const SCRIPT = fileURLToPath(new URL('../../native/test/run.sh', import.meta.url))

if (process.platform === 'linux') t.spawn('sh', [SCRIPT], {}, 'the C modules')
else t.pass('the C modules', { skip: `this is ${process.platform}, not Linux` })
