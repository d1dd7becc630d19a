// The whole document: every section, every key, its default and what it means, once.

import { z } from 'zod'
import { parseBind, pathFault } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { LOG_LEVELS } from '../core/log.ts'
import type { LogLevel } from '../core/log.ts'
import { count, duration, flag, name, oneOf, text } from '../core/settings.ts'
import { inheritable, plane, serverSchema } from './server.ts'

const LEVEL = `one of ${LOG_LEVELS.join(', ')}`

/** Where one of our own listeners is; undefined when not set. */
const listen = (usual = '') =>
  text()
    .refine((value) => value === '' || parseBind(value)?.length === 1, {
      error: 'an address to listen on such as "127.0.0.1:8888", ":8888" or "unix:/run/api.sock"',
    })
    .transform((value, context): Address | undefined => {
      const address = parseBind(value)?.[0]
      const fault = address && pathFault(address)
      if (fault) context.addIssue({ code: 'custom', message: fault })
      return address
    })
    .prefault(usual)

/** A section that listens must say where once it is enabled. */
const says = (section: { enabled?: boolean; bind?: Address | undefined }, context: z.core.$RefinementCtx) => {
  if (section?.enabled !== true || section.bind !== undefined) return
  context.addIssue({
    code: 'custom',
    path: ['bind'],
    message: 'an address to listen on, since enabled is true',
  })
}

/** The native plane has no more rings. */
const MOST_THREADS = 64
const THREADS = `a whole number, 0 to ${MOST_THREADS}`

const always = { when: () => true }

const logging = z.strictObject({
  level: text()
    .transform((value) => value.toLowerCase() as LogLevel)
    .refine((value) => LOG_LEVELS.includes(value), { error: LEVEL })
    .default('info')
    .describe(`Least important lines to write: ${LOG_LEVELS.join(', ')}.`),
  output: name().default('stdout').describe('Where lines go: stdout, stderr or the path of a file.'),
  format: text().default('text').describe('How lines look: json, anything else is text.'),
  access: text()
    .default('')
    .describe(
      'Where a line for each flow that ended goes: stdout, stderr or the path of a file; empty writes none.',
    ),
})

const api = z
  .strictObject({
    enabled: flag().default(false).describe('Serves the REST API.'),
    bind: listen().describe('Where the REST API listens.'),
    basic_auth: z
      .strictObject({
        login: name().describe('User name to ask for.'),
        password: text().describe('Password to ask for.'),
      })
      .optional()
      .describe('Asks every caller for a user name and a password.'),
    tls: z
      .strictObject({
        cert_path: name().describe('File with the certificate chain, PEM.'),
        key_path: name().describe('File with the private key, PEM.'),
      })
      .optional()
      .describe('Serves HTTPS.'),
    cors: flag().default(false).describe('Lets pages of other origins call the API.'),
  })
  .superRefine(says, always)

const metrics = z
  .strictObject({
    enabled: flag().default(false).describe('Serves metrics for Prometheus.'),
    bind: listen().describe('Where metrics are served.'),
    gobetween: flag().default(false).describe('Adds the series under the names gobetween gives them.'),
  })
  .superRefine(says, always)

const profiler = z
  .strictObject({
    enabled: flag().default(false).describe('Serves the profiler.'),
    bind: listen().describe('Where the profiler is served.'),
  })
  .superRefine(says, always)

const acme = z.strictObject({
  challenge: oneOf(['http', 'sni', 'dns'])
    .default('http')
    .describe('How the certificate authority is answered; only http does anything.'),
  http_bind: listen('0.0.0.0:80').describe('Where the http challenge is answered.'),
  cache_dir: name().default('/tmp').describe('Folder that keeps certificates.'),
})

const sections = {
  logging: logging.prefault({}).describe('What is written where.'),
  api: api.prefault({}).describe('The REST API.'),
  metrics: metrics.prefault({}).describe('Metrics for Prometheus.'),
  defaults: z.strictObject(inheritable).prefault({}).describe('What servers use that do not say otherwise.'),
  acme: acme.optional().describe('Certificates obtained from a certificate authority.'),
  profiler: profiler.optional().describe('The profiler.'),
  plane: plane()
    .default('auto')
    .describe(
      'What moves the bytes of servers that do not say otherwise; auto is native where it can be had.',
    ),
  plane_threads: count(0, THREADS)
    .refine((value) => value <= MOST_THREADS, { error: THREADS })
    .default(0)
    .describe('Threads of the native plane; 0 is one for each core, 8 at most.'),
  shutdown_timeout: duration()
    .default(30_000)
    .describe('How long flows may go on after a signal to end before they are closed.'),
  state_dir: text()
    .default('')
    .describe(
      'Folder that keeps the last good list of every discovery for the next start; empty keeps none.',
    ),
  healthcheck_concurrency: count(1)
    .default(1000)
    .describe(
      'Most health checks at once, all servers together; those that only wait for a dial to be answered do not count.',
    ),
}

/** The document without its servers, which are read one by one. */
export const generalSchema = z.strictObject(sections)

/** The document as it is written; the JSON Schema and the reference are made from it. */
export const documentSchema = z.strictObject({
  ...sections,
  servers: z.record(z.string(), serverSchema).prefault({}).describe('The servers, each under its name.'),
})

/** Everything but the servers as it runs. */
export type General = z.output<typeof generalSchema>
