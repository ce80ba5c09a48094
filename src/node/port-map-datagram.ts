/** Asks a router over PCP, and over NAT-PMP when it speaks only that. */
import { createSocket } from 'node:dgram'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { CarrierError, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'
import type { Gateway, RouterPort } from './port-map-types.ts'
import { decodeNatPmpAddress, decodeNatPmpMap, decodePcpMap, encodeNatPmpMap, encodePcpMap, NAT_PMP_ADDRESS_REQUEST, NONCE_BYTES, ROUTER_PORT } from './port-map-wire.ts'
import type { MapAnswer } from './port-map-wire.ts'

/** A question is asked again so soon, then twice as late each time. */
const AGAIN_MS = 250

/**
 * The names of our mappings. A router that speaks PCP renews and removes a mapping only under the name it was made with (RFC 6887
 * 11.3), so names outlive the loss of the router: keep them as long as the node.
 */
export interface PcpNonces { nonceOf: (gateway: Gateway, insidePort: number) => Uint8Array }

/** Creates them, random and bounded by LIMITS.portMapNonceCount. */
export function createPcpNonces (): PcpNonces {
  const nonces = new Map<string, Uint8Array>()
  return {
    nonceOf: ({ router, own }, insidePort) => {
      // another name for each network: they would show that we are the same
      const id = `${router} ${own} ${insidePort}`
      const nonce = nonces.get(id) ?? new Uint8Array(randomBytes(NONCE_BYTES))
      nonces.delete(id)
      nonces.set(id, nonce)
      const [oldest] = nonces.keys()
      if (nonces.size > LIMITS.portMapNonceCount && oldest !== undefined) nonces.delete(oldest)
      return nonce
    }
  }
}

/** Looks whether the router speaks PCP or NAT-PMP, by asking for its outside address. `port` is another one in tests. */
export async function probeDatagrams (clock: Clock, nonces: PcpNonces, gateway: Gateway, signal: AbortSignal, port = ROUTER_PORT): Promise<RouterPort | undefined> {
  try {
    // asked of those that speak both too: the answer to it changes nothing at the router. One that speaks PCP alone says so
    const answer = await ask<unknown>(clock, gateway, port, NAT_PMP_ADDRESS_REQUEST, (bytes) => bytes.length >= 24 && bytes[0] === 2 ? { grant: undefined } : decodeNatPmpAddress(bytes), signal)
    if ('refusal' in answer) return undefined
    return createPort(clock, nonces, gateway, port)
  } catch {
    signal.throwIfAborted()
    // it speaks neither: the next way is asked
    return undefined
  }
}

function createPort (clock: Clock, { nonceOf }: PcpNonces, gateway: Gateway, port: number): RouterPort {
  let isPcp = true

  return {
    get name () { return isPcp ? 'PCP' as const : 'NAT-PMP' as const },
    map: async (request, signal) => {
      if (isPcp) {
        const nonce = nonceOf(gateway, request.insidePort)
        const answer = await ask(clock, gateway, port, encodePcpMap(request, gateway.own, nonce), (bytes) => decodePcpMap(bytes, request, nonce), signal)
        if ('grant' in answer) return answer.grant
        // another version: an older router
        if (answer.refusal.code !== 1) throw refused(answer.refusal.text)
        isPcp = false
      }
      const answer = await ask(clock, gateway, port, encodeNatPmpMap(request), (bytes) => decodeNatPmpMap(bytes, request), signal)
      if ('refusal' in answer) throw refused(answer.refusal.text)
      return { ...answer.grant, outsideHost: await address(clock, gateway, port, signal) }
    },
    unmap: async ({ insidePort }, signal) => {
      const request = { insidePort, outsidePort: 0, lifetimeSeconds: 0 }
      const nonce = nonceOf(gateway, insidePort)
      const answer = isPcp
        ? await ask(clock, gateway, port, encodePcpMap(request, gateway.own, nonce), (bytes) => decodePcpMap(bytes, request, nonce), signal)
        : await ask(clock, gateway, port, encodeNatPmpMap(request), (bytes) => decodeNatPmpMap(bytes, request), signal)
      if ('refusal' in answer) throw refused(answer.refusal.text)
    }
  }
}

async function address (clock: Clock, gateway: Gateway, port: number, signal: AbortSignal): Promise<string> {
  const answer = await ask(clock, gateway, port, NAT_PMP_ADDRESS_REQUEST, decodeNatPmpAddress, signal)
  if ('refusal' in answer) throw refused(answer.refusal.text)
  return answer.grant.outsideHost
}

/** Sends a question until it is answered. The socket hears nobody but the router. */
async function ask<T> (clock: Clock, gateway: Gateway, port: number, question: Uint8Array, decode: (datagram: Uint8Array) => MapAnswer<T>, parent: AbortSignal): Promise<NonNullable<MapAnswer<T>>> {
  using deadline = startDeadline(clock, LIMITS.portMapAskMs, 'the router does not answer', parent)
  deadline.signal.throwIfAborted()
  const socket = createSocket('udp4')
  let timer: Timer | undefined
  try {
    socket.bind({ port: 0, address: gateway.own })
    await once(socket, 'listening')
    // errors of the kernel about what the router refused come late and in any order
    socket.on('error', () => { /* the deadline, or the next answer, decides */ })
    socket.connect(port, gateway.router)
    await once(socket, 'connect')
    // it may have fired while the socket was made: nobody would hear it any more
    deadline.signal.throwIfAborted()
    return await new Promise((resolve, reject) => {
      let heardCount = 0
      let againMs = AGAIN_MS
      const say = (): void => {
        // a router that is not there yet: the same as no answer
        socket.send(question, () => { /* see above */ })
        timer = clock.setTimer(say, againMs)
        againMs *= 2
      }
      socket.on('message', (bytes) => {
        heardCount++
        const answer = bytes.length > LIMITS.portMapDatagramBytes || heardCount > LIMITS.portMapDatagramCount ? undefined : decode(bytes)
        if (answer !== undefined) resolve(answer)
      })
      deadline.signal.addEventListener('abort', () => { reject(deadline.signal.reason as Error) }, { once: true })
      say()
    })
  } finally {
    timer?.cancel()
    socket.close()
  }
}

function refused (text: string): CarrierError {
  return new CarrierError('ERR_NOT_AVAILABLE', `the router refuses: ${text}`)
}
