// Why this backend: 32 bits that travel with the flow and are put into words when it ends.
//
//     bits 0-3 how   4-7 redispatches   8-15 endpoint   16-31 priority

const HOW = ['elected', 'only-one', 'queued', 'connection-id'] as const

export interface Note {
  /** By the balancer among several, because there was no other, from the queue, or as its QUIC connection is there. */
  readonly how: (typeof HOW)[number]
  /** Backends whose dial had failed before. */
  readonly redispatches: number
  /** Which address of its host name, from 0. */
  readonly endpoint: number
  readonly priority: number
}

/** A note as one unsigned number; what is too large for its bits is cut to the largest. */
export function packNote({ how, redispatches, endpoint, priority }: Note): number {
  const low = HOW.indexOf(how) | (Math.min(redispatches, 15) << 4) | (Math.min(endpoint, 255) << 8)
  return (low | (Math.min(priority, 65535) << 16)) >>> 0
}

export function unpackNote(note: number): Note {
  return {
    how: HOW[note & 15] ?? 'elected',
    redispatches: (note >>> 4) & 15,
    endpoint: (note >>> 8) & 255,
    priority: note >>> 16,
  }
}

/** A note for the access log: `leastconn`, `only-one`, `weight;redispatch=1;priority=2`. */
export function describeNote(note: number, balance: string): string {
  const { how, redispatches, endpoint, priority } = unpackNote(note)
  const words = [how === 'elected' ? balance : how]
  if (redispatches > 0) words.push(`redispatch=${redispatches}`)
  if (endpoint > 0) words.push(`endpoint=${endpoint}`)
  if (priority !== 1) words.push(`priority=${priority}`)
  return words.join(';')
}
