// Compiles src/ to dist/. An install without the development packages uses the dist/ it came with.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

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
