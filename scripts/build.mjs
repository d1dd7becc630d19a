// Compiles src/ to dist/, and native/src to the addon where that is older. An install without the development packages
// uses the dist/ it came with; one without a C compiler does without the addon.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { buildAddon, isCurrent } from '../native/build.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const compiler = `${root}node_modules/typescript/bin/tsc`

if (existsSync(compiler)) {
  const { status } = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], {
    cwd: root,
    stdio: 'inherit',
  })
  process.exitCode = status ?? 1
} else if (!existsSync(`${root}dist/cli/main.js`)) {
  console.error(
    'cannot build: the TypeScript compiler is not installed; run "npm install" without --omit=dev',
  )
  process.exitCode = 1
}

if (process.platform === 'linux' && !isCurrent()) {
  const { state, line, said } = buildAddon()
  console.error(said + line)
  // Who installs or starts has the portable plane; who builds or tests is working on these sources.
  const using = ['prepare', 'start'].includes(process.env.npm_lifecycle_event)
  if (state === 'failed' && !using) process.exitCode = 1
}
