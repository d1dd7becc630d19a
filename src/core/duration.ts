// Go's durations, read once into milliseconds and written back the way Go writes them.

const MS: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 36e5 }
const PART = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y

/**
 * Milliseconds in `text`, or NaN when it is not a duration: optional sign, then numbers with units
 * (`1h30m`, `1.5s`, `500ms`), or a bare `0`. The grammar is that of Go's `time.ParseDuration`.
 */
export function parseDuration(text: string): number {
  const sign = text.startsWith('-') ? -1 : 1
  const body = /^[-+]/.test(text) ? text.slice(1) : text
  if (body === '0') return 0
  if (body === '') return NaN
  let ms = 0
  for (PART.lastIndex = 0; PART.lastIndex < body.length;) {
    const part = PART.exec(body)
    if (!part) return NaN
    ms += Number(part[1]) * MS[part[2]!]!
  }
  return sign * ms
}

/** `ms` as Go prints a duration: `0s`, `250ms`, `1m30s`, `1h2m3.4s`. */
export function formatDuration(ms: number): string {
  if (ms < 0) return '-' + formatDuration(-ms)
  if (ms === 0) return '0s'
  if (ms < 1e-3) return `${round(ms * 1e6)}ns`
  if (ms < 1) return `${round(ms * 1e3)}µs`
  if (ms < 1000) return `${round(ms)}ms`
  const hours = Math.floor(ms / 36e5)
  const minutes = Math.floor((ms % 36e5) / 6e4)
  const seconds = `${round((ms % 6e4) / 1000)}s`
  if (hours) return `${hours}h${minutes}m${seconds}`
  return minutes ? `${minutes}m${seconds}` : seconds
}

function round(value: number): number {
  return Number(value.toFixed(9))
}
