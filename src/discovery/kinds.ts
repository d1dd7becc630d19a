// Every discovery a config may name. A new one is a file beside this and a line here.

export { consul } from './consul.ts'
export { docker } from './docker.ts'
export { exec } from './exec.ts'
export { file } from './file.ts'
export { json } from './json.ts'
export { lxd } from './lxd.ts'
export { plaintext } from './plaintext.ts'
export { srv } from './srv.ts'
export { staticList as static } from './static.ts'
