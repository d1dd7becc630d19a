// A moment as Go writes it in JSON.

import { localTime } from '../core/log.ts'

/** Milliseconds since 1970 as RFC 3339 in local time, with as many digits as are needed: `…T10:00:00.25+02:00`. */
export function goTime(ms: number): string {
  const date = new Date(ms)
  const fraction = String(Math.floor(((ms % 1000) + 1000) % 1000))
    .padStart(3, '0')
    .replace(/0+$/, '')
  return localTime(date).replace(' ', 'T') + (fraction && `.${fraction}`) + zone(-date.getTimezoneOffset())
}

function zone(minutes: number): string {
  if (minutes === 0) return 'Z'
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  const size = Math.abs(minutes)
  return `${minutes < 0 ? '-' : '+'}${two(size / 60)}:${two(size % 60)}`
}
