// Trust between us and an LXD server that is asked over HTTPS: our certificate and those of servers, kept in the
// folder where `lxc` has its own.
//
//   client.crt, client.key      whom the server trusts
//   servercerts/REMOTE.crt      the only certificate a server may show, once it is there

import { X509Certificate } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { homedir, hostname } from 'node:os'
import { isIP } from 'node:net'
import { dirname, join } from 'node:path'
import { connect } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import type { Clock } from '../../core/clock.ts'
import { messageOf } from '../../core/errors.ts'
import { question, ready, record, Refused } from './api.ts'
import type { Door } from './api.ts'

/** TCP asks after a silent server this often; Linux gives it up ten seconds later. */
const KEEPALIVE_MS = 20_000

export interface TrustSettings {
  /** Name of the server, for the file of its certificate. */
  readonly remote: string
  /** Unset is `.config/lxc` in the home directory; a leading `~/` is the home directory. */
  readonly folder: string | undefined
  /** A trust password or token; empty is none. */
  readonly password: string
  /** Makes the client certificate when there is none. */
  readonly generate: boolean
  /** Trusts the certificate the server shows at first. */
  readonly accept: boolean
}

interface Pair {
  readonly cert: string
  readonly key: string
}

/** The way to a server over HTTPS, through which it gets to know us. */
export class HttpsDoor implements Door {
  readonly address: string
  readonly host: string
  readonly #url: URL
  readonly #settings: TrustSettings
  readonly #folder: string
  readonly #clock: Clock

  constructor(address: string, settings: TrustSettings, clock: Clock) {
    this.address = address
    this.#url = new URL(address)
    this.host = this.#url.host
    this.#settings = settings
    this.#folder = (settings.folder || '~/.config/lxc').replace(/^~(?=\/|$)/, homedir())
    this.#clock = clock
  }

  async dial(signal: AbortSignal): Promise<TLSSocket> {
    const [pair, kept] = await Promise.all([this.#pair(), this.#kept()])
    signal.throwIfAborted()
    const host = this.#url.hostname.replace(/^\[|\]$/g, '')
    const socket = this.#connect({
      host,
      port: Number(this.#url.port) || 443,
      servername: isIP(host) ? '' : host,
      ...pair,
      // Judged below, before anything is said: LXD's certificates are self-signed.
      rejectUnauthorized: false,
    })
    await ready(socket, 'secureConnect', signal)
    try {
      await this.#judge(socket, kept)
      signal.throwIfAborted()
    } catch (error) {
      socket.destroy()
      throw error
    }
    return socket.setKeepAlive(true, KEEPALIVE_MS)
  }

  /** Makes the server trust our certificate, by the password or token. Throws what the operator can do instead. */
  async introduce(signal: AbortSignal): Promise<void> {
    const pair = await this.#pair()
    const ours = join(this.#folder, 'client.crt')
    const refused = `LXD at ${this.address} does not trust us`
    if (!pair)
      throw new Error(
        `${refused}: there is no ${ours}; put a client certificate and its key there, or set lxd_generate_client_certs`,
      )
    const { password } = this.#settings
    if (!password)
      throw new Error(
        `${refused}: run \`lxc config trust add ${ours}\` there, or set lxd_server_remote_password`,
      )
    try {
      await question(this, '/1.0/certificates', signal, {
        type: 'client',
        name: `fairlead on ${hostname()}`,
        certificate: new X509Certificate(pair.cert).raw.toString('base64'),
        password,
        // Incus knows tokens alone, and under this name only; older servers take them as a password.
        ...(readToken(password) && { trust_token: password }),
      })
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      throw new Error(
        `${refused}: lxd_server_remote_password is not its trust password, nor a token that still holds (${error.message})`,
        { cause: error },
      )
    }
  }

  #connect(options: ConnectionOptions): TLSSocket {
    try {
      return connect(options)
    } catch (error) {
      throw new Error(`client.crt and client.key in ${this.#folder} cannot be used: ${messageOf(error)}`, {
        cause: error,
      })
    }
  }

  /** Our certificate and key; undefined when there are none and none are to be made. */
  async #pair(): Promise<Pair | undefined> {
    const paths = ['client.crt', 'client.key'].map((name) => join(this.#folder, name))
    const [cert, key] = await Promise.all(paths.map(read))
    if (cert !== undefined && key !== undefined) return { cert, key }
    if (cert !== undefined || key !== undefined)
      throw new Error(`expected ${paths[0]} and ${paths[1]}, got only one of the two`)
    return this.#settings.generate ? generate(this.#folder, this.#clock) : undefined
  }

  get #certificateFile(): string {
    return join(this.#folder, 'servercerts', `${this.#settings.remote}.crt`)
  }

  /** The only certificate the server may show. */
  async #kept(): Promise<X509Certificate | undefined> {
    const text = await read(this.#certificateFile)
    if (text === undefined) return undefined
    try {
      return new X509Certificate(text)
    } catch (error) {
      throw new Error(`${this.#certificateFile}: expected a certificate, PEM: ${messageOf(error)}`, {
        cause: error,
      })
    }
  }

  /** Throws unless the server showed what it may. */
  async #judge(socket: TLSSocket, kept: X509Certificate | undefined): Promise<void> {
    const shown = socket.getPeerX509Certificate()
    if (!shown) throw new Error('it shows no certificate')
    if (kept) {
      if (shown.raw.equals(kept.raw)) return
      throw new Error(
        `it shows another certificate than ${this.#certificateFile} (SHA-256 ${shown.fingerprint256}); delete that file if the server was given a new one`,
      )
    }
    if (socket.authorized) return
    if (!this.#settings.accept)
      throw new Error(
        `its certificate is unknown (SHA-256 ${shown.fingerprint256}); put it in ${this.#certificateFile}, or set lxd_accept_server_cert`,
      )
    const { fingerprint } = readToken(this.#settings.password) ?? {}
    if (fingerprint !== undefined && fingerprint !== shown.fingerprint256.replaceAll(':', '').toLowerCase())
      throw new Error(`the token is for another server than this one (SHA-256 ${shown.fingerprint256})`)
    await this.#keep(shown)
  }

  async #keep(shown: X509Certificate): Promise<void> {
    try {
      await mkdir(dirname(this.#certificateFile), { recursive: true, mode: 0o700 })
      await writeFile(this.#certificateFile, shown.toString(), { flag: 'wx' })
    } catch (error) {
      // A connection beside this one was first: it must have seen the same.
      const kept = (error as NodeJS.ErrnoException).code === 'EEXIST' ? await this.#kept() : undefined
      if (!kept?.raw.equals(shown.raw))
        throw new Error(`its certificate cannot be kept: ${messageOf(error)}`, { cause: error })
    }
  }
}

/** Certificates being made, by folder: several servers may need the same at once. */
const making = new Map<string, Promise<Pair>>()

function generate(folder: string, clock: Clock): Promise<Pair> {
  const made = making.get(folder) ?? write(folder, clock).finally(() => making.delete(folder))
  making.set(folder, made)
  return made
}

async function write(folder: string, clock: Clock): Promise<Pair> {
  const { selfSigned } = await import('./certificate.ts')
  const { certificate, key } = selfSigned(`fairlead on ${hostname()}`.slice(0, 64), new Date(clock.date()))
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await writeFile(join(folder, 'client.key'), key, { flag: 'wx', mode: 0o600 })
    await writeFile(join(folder, 'client.crt'), certificate, { flag: 'wx' })
  } catch (error) {
    throw new Error(`no client certificate can be made: ${messageOf(error)}`, { cause: error })
  }
  return { cert: certificate, key }
}

/** A token as `lxc config trust add` prints them: JSON in base64. */
function readToken(text: string): { fingerprint: unknown } | undefined {
  try {
    const token = record(JSON.parse(Buffer.from(text, 'base64').toString()))
    return token && 'secret' in token ? { fingerprint: token.fingerprint } : undefined
  } catch {
    return undefined
  }
}

/** The text of a file; undefined when there is none. */
async function read(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Error(`${path} cannot be read: ${messageOf(error)}`, { cause: error })
  }
}
