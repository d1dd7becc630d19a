// Every health check a config may name. A new one is a file beside this and a line here.

export { exec } from './exec.ts'
export { none } from './none.ts'
export { ping } from './ping.ts'
export { probe } from './probe.ts'
