// `npm start`: builds, then runs the demo, or fairlead with the arguments given after `--`.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

await import('./build.mjs')
if (process.exitCode) process.exit()

const given = process.argv.slice(2)
const args = given.length > 0 ? given : ['demo']
const fairlead = spawn(fileURLToPath(new URL('../bin/fairlead', import.meta.url)), args, { stdio: 'inherit' })
// A terminal sends Ctrl-C to both; whoever signals this process alone means the balancer.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => fairlead.kill('SIGTERM'))
fairlead.on('exit', (code, signal) => {
  process.exitCode = signal ? 1 : code
})
