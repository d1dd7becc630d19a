// Why a client was turned away and why a flow ended: one list for stats, metrics and log alike.

/** Why a client was refused before it had a backend. */
export const REFUSALS = [
  'access',
  'server-full',
  'rate',
  'no-backends',
  'all-unhealthy',
  'all-full',
  'queue-timeout',
  'no-route',
  'bad-header',
  'header-timeout',
  'tls-handshake',
  'undecided',
  'descriptors',
  'ports',
  'draining',
] as const

/** Why a flow ended that had been given a backend, or whose client left while one was looked for. */
export const ENDINGS = [
  'client-closed',
  'backend-closed',
  'client-reset',
  'backend-reset',
  'client-idle',
  'backend-idle',
  'half-close-timeout',
  'dial-failed',
  'dial-timeout',
  'max-requests',
  'max-responses',
  'evicted',
  'backend-lost',
  'moved',
  'killed',
  'drained',
  'shutdown',
  'plane-failed',
] as const

export type Refusal = (typeof REFUSALS)[number]
export type Ending = (typeof ENDINGS)[number]
/** Every way a flow can be over. */
export type Reason = Refusal | Ending

/** What is said to an operator when an election finds nobody. */
export const EXPLANATIONS: Partial<Record<Reason, string>> = {
  'no-backends': 'no backends discovered',
  'all-unhealthy': 'all backends are unhealthy',
  'all-full': 'all backends have reached their max connections limit',
}
