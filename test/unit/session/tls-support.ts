/** Raw connections, a man in the middle, and links over them. */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { systemClock } from '../../../src/base/index.ts'
import type { CarrierError, Clock } from '../../../src/base/index.ts'
import { createLinkCertificate } from '../../../src/identity/index.ts'
import type { LinkCertificate } from '../../../src/identity/index.ts'
import type { Link } from '../../../src/session/link.ts'
import { openTlsLink } from '../../../src/session/tls-link.ts'
import { testDevice } from '../../support/forged-certificate.ts'
import type { TestDevice } from '../../support/forged-certificate.ts'
import { pause, within } from '../../support/wait.ts'

/** Far above what anything takes on a slow machine. */
export const DEADLINE_MS = 60_000

/** Two connected sockets; the first one dialled. */
export async function socketPair (t: TestContext): Promise<[Socket, Socket]> {
  const server = createServer({ pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const dialled = connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(dialled, 'connect')
  const [other] = await accepted
  server.close()
  for (const socket of [dialled, other]) {
    socket.on('error', ignore)
    // in a turn of its own: this may run inside of OpenSSL, see destroyTls
    t.after(async () => {
      await pause(0)
      socket.destroy()
    })
  }
  return [dialled, other]
}

/** Errors of sockets that a test breaks on purpose. */
export function ignore (): void {
  // the test looks at what its links say
}

/** What a man in the middle does with the bytes of one direction: the chunks to pass on. */
export type Tamper = (bytes: Uint8Array) => Uint8Array[]

/** Two ends with somebody in between, who passes everything on as it is until told otherwise. */
export interface Middle { near: Socket, far: Socket, legs: [Socket, Socket], tamper: { fromNear: Tamper, fromFar: Tamper } }

export async function middle (t: TestContext): Promise<Middle> {
  const [near, nearLeg] = await socketPair(t)
  const [farLeg, far] = await socketPair(t)
  const tamper = { fromNear: asIs, fromFar: asIs }
  const join = (from: Socket, to: Socket, name: keyof typeof tamper): void => {
    from.on('data', (chunk: Buffer) => { for (const bytes of tamper[name](chunk)) to.write(bytes) })
    from.on('end', () => { to.end() })
    from.on('close', () => { to.destroy() })
  }
  join(nearLeg, farLeg, 'fromNear')
  join(farLeg, nearLeg, 'fromFar')
  nearLeg.resume()
  return { near, far, legs: [nearLeg, farLeg], tamper }
}

function asIs (bytes: Uint8Array): Uint8Array[] {
  return [bytes]
}

/** Cuts a direction into TLS records; `change` gets every whole record and its number. */
export function perRecord (change: (record: Buffer, index: number) => Uint8Array[]): Tamper {
  let rest = Buffer.alloc(0)
  let index = 0
  return (bytes) => {
    const out: Uint8Array[] = []
    rest = Buffer.concat([rest, bytes])
    while (rest.length >= 5) {
      const length = 5 + rest.readUInt16BE(3)
      if (rest.length < length) break
      out.push(...change(rest.subarray(0, length), index++))
      rest = rest.subarray(length)
    }
    return out
  }
}

export const controller = testDevice(1)
export const other = testDevice(2)
const certificates = new Map<TestDevice, Promise<LinkCertificate>>()

/** The certificate of a device, made once. */
export async function certificateOf (device: TestDevice): Promise<LinkCertificate> {
  const known = certificates.get(device) ?? createLinkCertificate(device)
  certificates.set(device, known)
  return known
}

/** Makes one end of a link. */
export async function openEnd (socket: Socket, isController: boolean, options: { clock?: Clock, signal?: AbortSignal, expects?: TestDevice } = {}): Promise<Link> {
  const [self, device] = isController ? [controller, other] : [other, controller]
  return openTlsLink({ clock: options.clock ?? systemClock }, {
    socket,
    isController,
    certificate: await certificateOf(self),
    device: (options.expects ?? device).did,
    kind: 'splice',
    path: 'spliced',
    relayPeerId: 'relay',
    ...(options.signal === undefined ? {} : { signal: options.signal })
  })
}

/** A link over two sockets: the end of the controller, and the other one. */
export async function openBoth (near: Socket, far: Socket, options: { clock?: Clock } = {}): Promise<[Link, Link]> {
  return within('both ends of the link', DEADLINE_MS, Promise.all([openEnd(near, true, options), openEnd(far, false, options)]))
}

/** What came out of a link. */
export interface Watched {
  chunks: Uint8Array[]
  receivedBytes: () => number
  /** Resolves when so many bytes came. */
  received: (bytes: number) => Promise<Buffer>
  closed: Promise<CarrierError>
  closedCount: () => number
}

/** Opens a link and keeps what it says. */
export function watch (link: Link, hooks: { onBytes?: (chunk: Uint8Array) => void, onDrain?: () => void } = {}): Watched {
  const chunks: Uint8Array[] = []
  const closed = Promise.withResolvers<CarrierError>()
  const waiters: Array<{ bytes: number, resolve: (all: Buffer) => void }> = []
  let total = 0
  let closedCount = 0
  link.open({
    onBytes: (chunk) => {
      total += chunk.length
      if (hooks.onBytes === undefined) chunks.push(Uint8Array.from(chunk))
      else hooks.onBytes(chunk)
      for (const waiter of waiters) if (total >= waiter.bytes) waiter.resolve(Buffer.concat(chunks))
    },
    onDrain: () => { hooks.onDrain?.() },
    onClosed: (err) => {
      closedCount++
      closed.resolve(err)
    }
  })
  return {
    chunks,
    receivedBytes: () => total,
    received: async (bytes) => within(`${bytes} bytes`, DEADLINE_MS, new Promise<Buffer>((resolve) => {
      if (total >= bytes) resolve(Buffer.concat(chunks))
      else waiters.push({ bytes, resolve })
    })),
    closed: within('the end of the link', DEADLINE_MS, closed.promise),
    closedCount: () => closedCount
  }
}
