// Healthy when a Redis server answers PING with PONG.

import type { Problem } from '../core/errors.ts'
import { name } from '../core/settings.ts'
import { check } from './check.ts'
import { line, quoted } from './expects.ts'
import { conversing } from './talk.ts'
import type { Step } from './talk.ts'
import { where } from './where.ts'

const settings = {
  ...where,
  redis_username: name().optional().describe('User of redis_password; unset is the default user.'),
  redis_password: name().optional().describe('Password that is given first.'),
}

export const redis = check({ settings, protocols: ['tcp', 'tls'], conflicts }, (settings) => {
  const { redis_username: user, redis_password: password } = settings
  const credentials = password === undefined ? [] : [...(user === undefined ? [] : [user]), password]
  const login = credentials.length > 0 ? [command('AUTH', ...credentials)] : []
  const steps: Step[] = [{ send: Buffer.concat([...login, command('PING')]) }]
  if (password !== undefined) steps.push({ expect: reply('+OK', password) })
  return conversing(settings, [...steps, { expect: reply('+PONG') }])
})

type RedisSettings = { redis_username?: string | undefined; redis_password?: string | undefined }

function conflicts({ redis_username, redis_password }: RedisSettings): readonly Problem[] {
  if (redis_username === undefined || redis_password !== undefined) return []
  return [{ path: 'redis_password', message: 'a string, since there is a redis_username' }]
}

/** As the protocol has it (RESP): an array of strings. */
function command(...words: string[]): Buffer {
  const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`)
  return Buffer.from(`*${words.length}\r\n${parts.join('')}`)
}

/** A server without AUTH repeats what it was given, or the beginning of it; `secret` is never told. */
function reply(expected: string, secret?: string) {
  return line((got) => {
    const [told = ''] = secret === undefined ? [got] : got.replaceAll(secret, '***').split(', with args')
    if (got !== expected) throw new Error(`answered ${quoted(told)}`)
    return `answered ${quoted(got)}`
  })
}
