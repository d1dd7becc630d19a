// When a silent peer is probed, as the kernel takes it.

/** The kernel refuses more seconds than these (MAX_TCP_KEEPIDLE). */
const MOST_SECONDS = 32_767

/** The idle time before the first probe in whole seconds, of which 0 is never and nothing in between. */
export function keepAliveSeconds(ms: number): number {
  return ms > 0 ? Math.min(Math.max(1, Math.round(ms / 1000)), MOST_SECONDS) : 0
}
