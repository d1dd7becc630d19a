// Which headers let a page of another origin call the API.

import type { IncomingHttpHeaders } from 'node:http'

const ALLOWED = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Credentials': 'true',
}

const PREFLIGHT = {
  ...ALLOWED,
  'Access-Control-Allow-Methods': 'PUT,POST,DELETE,GET,OPTIONS',
  // Content-Type is ours: a page that posts JSON announces it, and the browser would refuse without.
  'Access-Control-Allow-Headers': 'Origin,Authorization,Content-Type',
  'Access-Control-Max-Age': '43200',
}

/** The headers to add to an answer; undefined for callers that are no page, or one of our own origin. */
export function corsHeaders(
  method: string,
  headers: IncomingHttpHeaders,
): Record<string, string> | undefined {
  const { origin, host } = headers
  if (!origin || origin === `http://${host}` || origin === `https://${host}`) return undefined
  return method === 'OPTIONS' ? PREFLIGHT : ALLOWED
}
