// A configuration document over HTTP or HTTPS, bounded in time and size.

import type { RequestOptions } from 'node:https'
import { fetchBytes } from '../core/fetch.ts'

const TIMEOUT_MS = 10_000
const MOST_BYTES = 64 * 1024 * 1024

export interface Download {
  readonly status: number
  /** Of an answer with another status than 2xx only the beginning. */
  readonly text: string
}

/** The answer to a GET of `url`, redirects followed, whatever its status. Rejects after 10 s, and beyond 64 MiB. */
export async function download(url: URL, options: RequestOptions = {}): Promise<Download> {
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  try {
    const { status, body } = await fetchBytes(url, { ...options, signal, mostBytes: MOST_BYTES })
    return { status, text: body.toString() }
  } catch (error) {
    if (signal.aborted) throw new Error(`no complete answer within ${TIMEOUT_MS / 1000} s`, { cause: error })
    throw error
  }
}
