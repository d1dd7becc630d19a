// Whose certificates are trusted over TLS: those that are named, else the system's and Node's.

import { readFileSync } from 'node:fs'
import { createSecureContext, rootCertificates } from 'node:tls'
import type { SecureContext, SecureContextOptions } from 'node:tls'

/** PEM texts: authorities to trust, a certificate to show and its key. */
export type Trust = Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>

/** What certificates are checked against and which one is shown; kept, for the system's take milliseconds to read. */
export function secureContext({ ca, cert, key }: Trust): SecureContext {
  const name = JSON.stringify([ca, cert, key])
  const known = contexts.get(name)
  if (known) return known
  const context = createSecureContext({ ca: ca ?? systemCertificates(), cert, key })
  if (contexts.size >= MOST_CONTEXTS) contexts.clear()
  contexts.set(name, context)
  return context
}

const MOST_CONTEXTS = 64
const contexts = new Map<string, SecureContext>()

// Node trusts a list of its own and none that the administrator of a machine has added.
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
]

function systemCertificates(): string[] {
  for (const path of [process.env.SSL_CERT_FILE, ...BUNDLES]) {
    try {
      if (path) return [...rootCertificates, readFileSync(path, 'utf8')]
    } catch {
      // Another system keeps its bundle elsewhere.
    }
  }
  return [...rootCertificates]
}
