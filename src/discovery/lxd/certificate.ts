// A certificate of our own, written in DER by hand: Node makes keys and signatures but no certificates, and the
// machine may have no openssl.

import { generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto'

/** As long as those of `lxc`. */
const YEARS = 10

// Whole DER values, RFC 5280 and RFC 5758.
const COMMON_NAME = Buffer.from('0603550403', 'hex')
const ECDSA_WITH_SHA384 = Buffer.from('300a06082a8648ce3d040303', 'hex')
const VERSION_3 = Buffer.from('a003020102', 'hex')
/** Key usage, critical: digital signature. Extended key usage: client authentication. */
const EXTENSIONS = Buffer.from(
  'a3273025300e0603551d0f0101ff04040302078030130603551d25040c300a06082b06010505070302',
  'hex',
)

/** A certificate that its own key signed (ECDSA P-384), good for client authentication for ten years; both PEM. */
export function selfSigned(commonName: string, from: Date): { certificate: string; key: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const until = new Date(from)
  until.setUTCFullYear(from.getUTCFullYear() + YEARS)
  const name = sequence(der(0x31, sequence(COMMON_NAME, der(0x0c, Buffer.from(commonName)))))
  const body = sequence(
    VERSION_3,
    der(0x02, serial()),
    ECDSA_WITH_SHA384,
    name,
    sequence(time(from), time(until)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    EXTENSIONS,
  )
  const signature = der(0x03, Buffer.of(0), sign('sha384', body, privateKey))
  return {
    certificate: new X509Certificate(sequence(body, ECDSA_WITH_SHA384, signature)).toString(),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

/** One value: tag, length, contents. */
function der(tag: number, ...contents: Buffer[]): Buffer {
  const content = Buffer.concat(contents)
  const { length } = content
  const head = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.of(tag, ...head), content])
}

function sequence(...contents: Buffer[]): Buffer {
  return der(0x30, ...contents)
}

/** 16 bytes that read as a positive number, the first not zero. */
function serial(): Buffer {
  const bytes = randomBytes(16)
  bytes[0] = (bytes[0]! & 0x7f) | 0x40
  return bytes
}

/** UTCTime until 2049, then GeneralizedTime (RFC 5280, 4.1.2.5). */
function time(date: Date): Buffer {
  const text = date.toISOString().replace(/[-T:]|\.\d+/g, '')
  const short = date.getUTCFullYear() < 2050
  return short ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text))
}
