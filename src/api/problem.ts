// From what went wrong to the answer: the one place that chooses a status.

import { Fault, messageOf } from '../core/errors.ts'
import { logger } from '../core/log.ts'

/** A request body that is not what the route takes. */
export class BodyError extends Fault {
  constructor(message: string) {
    super('BODY_INVALID', message)
  }
}

/** The format asked of a dump is not one there is. */
export class UnknownFormatError extends Fault {
  constructor(format: string) {
    super('UNKNOWN_FORMAT', `Unknown format ${format}`)
  }
}

export interface Problem {
  readonly status: number
  /** What the caller is told, as a JSON string. */
  readonly message: string
  /** gobetween sends its 400s without a content type, which Go then guesses to be text. */
  readonly type: 'text/plain; charset=utf-8' | 'application/json; charset=utf-8'
}

const json = 'application/json; charset=utf-8'
const text = 'text/plain; charset=utf-8'

/** What to answer to whoever asked for `thrown`. A bug is logged with its stack; nothing is fatal here. */
export function problemOf(thrown: unknown): Problem {
  const message = messageOf(thrown)
  if (thrown instanceof BodyError) return { status: 400, message, type: text }
  if (thrown instanceof UnknownFormatError) return { status: 500, message, type: json }
  if (thrown instanceof Fault) return { status: 409, message, type: json }
  // fastify's own: a body too large, a length that does not fit, a path that cannot be decoded.
  const status = (thrown as { statusCode?: number }).statusCode ?? 500
  if (status < 500) return { status, message, type: status === 400 ? text : json }
  logger('api').error(thrown instanceof Error ? (thrown.stack ?? message) : message)
  return { status, message: `internal error: ${message}`, type: json }
}
