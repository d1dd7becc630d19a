// A DNS server that answers as a test says, over UDP and TCP on one port of 127.0.0.1.

import { createSocket } from 'node:dgram'
import type { RemoteInfo, Socket as DatagramSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { decode, encode } from 'dns-packet'
import type { Answer, DecodedPacket, Packet } from 'dns-packet'
import type { Test } from 'tap'

/** What was asked, and how. */
export interface Asked {
  readonly query: DecodedPacket
  readonly name: string
  readonly type: string
  readonly protocol: 'udp' | 'tcp'
  /** The stream, over TCP. */
  readonly socket: Socket | undefined
}

/** Sections of a message, or its bytes as they are; undefined is no answer. */
export type Told = Packet | Buffer | undefined

export interface Nameserver {
  readonly port: number
  /** `127.0.0.1:port`. */
  readonly address: string
  readonly asked: Asked[]
  /** TCP connections that are open. */
  readonly sockets: ReadonlySet<Socket>
}

export async function nameserver(t: Test, tell: (asked: Asked) => Told): Promise<Nameserver> {
  const asked: Asked[] = []
  const sockets = new Set<Socket>()
  const answer = (bytes: Buffer, protocol: Asked['protocol'], socket?: Socket) => {
    const query = decode(bytes)
    const { name, type } = query.questions![0]!
    const each = { query, name, type, protocol, socket }
    asked.push(each)
    return message(query, tell(each))
  }
  const tcp = createServer((socket) => {
    sockets.add(socket)
    let read = Buffer.alloc(0)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    socket.on('data', (chunk) => {
      read = Buffer.concat([read, chunk])
      if (read.length < 2 || read.length < 2 + read.readUInt16BE(0)) return
      const told = answer(read.subarray(2), 'tcp', socket)
      read = Buffer.alloc(0)
      if (told) socket.write(framed(told))
    })
  })
  const udp = await besides(tcp, (bytes, from, udp) => {
    const told = answer(bytes, 'udp')
    if (told) udp.send(told, from.port, from.address)
  })
  const { port } = udp.address()
  t.teardown(() => {
    udp.close()
    tcp.close()
    for (const socket of sockets) socket.destroy()
  })
  return { port, address: `127.0.0.1:${port}`, asked, sockets }
}

/** Has `tcp` listen on a free port, and resolves with a socket for datagrams there. */
async function besides(
  tcp: Server,
  heard: (bytes: Buffer, from: RemoteInfo, udp: DatagramSocket) => void,
): Promise<DatagramSocket> {
  for (;;) {
    await once(tcp.listen(0, '127.0.0.1'), 'listening')
    const udp = createSocket('udp4', (bytes, from) => heard(bytes, from, udp))
    udp.bind((tcp.address() as AddressInfo).port, '127.0.0.1')
    try {
      await once(udp, 'listening')
      return udp
    } catch (error) {
      // Free for streams, it may be taken for datagrams.
      udp.close()
      await once(tcp.close(), 'close')
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
  }
}

/** A message as TCP has it: its length first. */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}

function message({ id, questions }: DecodedPacket, told: Told): Buffer | undefined {
  if (told === undefined || Buffer.isBuffer(told)) return told
  return encode({ type: 'response', id: id!, questions: questions!, ...told })
}

/** An SRV record for `_web._tcp.test`. */
export function srvRecord(
  target: string,
  port: number,
  rest: { weight?: number; priority?: number } = {},
): Answer {
  return {
    type: 'SRV',
    name: '_web._tcp.test',
    ttl: 30,
    data: { target, port, priority: 1, weight: 1, ...rest },
  }
}

export function a(name: string, data: string, ttl = 60): Answer {
  return { type: 'A', name, data, ttl }
}

/** The record that says how long "there is none" is good for. */
export function soa(minimum: number): Answer {
  return { type: 'SOA', name: 'test', ttl: 3600, data: { mname: 'ns.test', rname: 'admin.test', minimum } }
}
