/** Asks a router over UPnP: finds it (SSDP), reads where its service is, and calls it (SOAP over HTTP). */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { isIPv4 } from 'node:net'
import { CarrierError, errorMessage, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Gateway, RouterPort } from './port-map-types.ts'
import { descriptionUrl, findMapService, memberOf, searchMessages, soapRequest, SSDP_GROUP, SSDP_PORT } from './port-map-upnp-wire.ts'
import type { MapService } from './port-map-upnp-wire.ts'

/** What a router shows beside our mappings: the same for everybody. */
const DESCRIPTION = 'carrier'

/** Error codes of the service that have a meaning here. */
const ONLY_PERMANENT = 725
const CONFLICTS = [718, 724, 727]
const NO_SUCH_ENTRY = 714

/** Looks whether the router has UPnP. `port` is another one in tests. */
export async function probeUpnp (clock: Clock, gateway: Gateway, random: () => number, signal: AbortSignal, port = SSDP_PORT): Promise<RouterPort | undefined> {
  const url = await search(clock, gateway, signal, port)
  if (url === undefined) return undefined
  const description = await fetchText(clock, url, { method: 'GET', headers: {}, body: '' }, signal)
  const service = findMapService(description.text, url)
  return service === undefined ? undefined : createPort(clock, gateway, service, random)
}

function createPort (clock: Clock, gateway: Gateway, service: MapService, random: () => number): RouterPort {
  let lifetime: 'bounded' | 'permanent' = 'bounded'

  async function call (action: string, args: Record<string, string | number>, signal: AbortSignal): Promise<{ text: string, failure: number | undefined }> {
    const { status, text } = await fetchText(clock, service.control, { method: 'POST', ...soapRequest(service.type, action, args) }, signal)
    if (status === 200) return { text, failure: undefined }
    const code = Number(memberOf(text, 'errorCode') ?? status)
    return { text, failure: Number.isInteger(code) ? code : status }
  }

  async function add (insidePort: number, outsidePort: number, lifetimeSeconds: number, signal: AbortSignal): Promise<number | undefined> {
    const { failure } = await call('AddPortMapping', {
      NewRemoteHost: '',
      NewExternalPort: outsidePort,
      NewProtocol: 'TCP',
      NewInternalPort: insidePort,
      NewInternalClient: gateway.own,
      NewEnabled: 1,
      NewPortMappingDescription: DESCRIPTION,
      NewLeaseDuration: lifetime === 'permanent' ? 0 : lifetimeSeconds
    }, signal)
    if (failure !== ONLY_PERMANENT || lifetime === 'permanent') return failure
    lifetime = 'permanent'
    return add(insidePort, outsidePort, lifetimeSeconds, signal)
  }

  return {
    name: 'UPnP',
    map: async (request, signal) => {
      let failure: number | undefined
      for (let attempt = 0; attempt < LIMITS.portMapConflictCount; attempt++) {
        const outsidePort = attempt === 0 && request.outsidePort !== 0 ? request.outsidePort : 20_000 + Math.floor(random() * 40_000)
        failure = await add(request.insidePort, outsidePort, request.lifetimeSeconds, signal)
        if (failure === undefined) {
          const { text } = await call('GetExternalIPAddress', {}, signal)
          const outsideHost = memberOf(text, 'NewExternalIPAddress') ?? ''
          if (!isIPv4(outsideHost)) throw new CarrierError('ERR_NOT_AVAILABLE', 'the router does not know its own outside address')
          return { outsideHost, outsidePort, lifetimeSeconds: lifetime === 'permanent' ? 0 : request.lifetimeSeconds }
        }
        if (!CONFLICTS.includes(failure)) break
      }
      throw new CarrierError('ERR_NOT_AVAILABLE', failure !== undefined && CONFLICTS.includes(failure) ? 'the router has given every port that was tried to somebody else' : `the router refuses (UPnP error ${failure ?? 0})`)
    },
    unmap: async ({ outsidePort }, signal) => {
      const { failure } = await call('DeletePortMapping', { NewRemoteHost: '', NewExternalPort: outsidePort, NewProtocol: 'TCP' }, signal)
      if (failure !== undefined && failure !== NO_SUCH_ENTRY) throw new CarrierError('ERR_NOT_AVAILABLE', `the router refuses (UPnP error ${failure})`)
    }
  }
}

/** Where the router says that its description is. Only the router itself is listened to. */
async function search (clock: Clock, gateway: Gateway, parent: AbortSignal, port: number): Promise<URL | undefined> {
  using deadline = startDeadline(clock, LIMITS.portMapSearchMs, 'the router has no UPnP', parent)
  const socket = createSocket('udp4')
  try {
    socket.bind({ port: 0, address: gateway.own })
    await once(socket, 'listening')
    socket.on('error', () => { /* nothing that the deadline does not decide */ })
    socket.setMulticastInterface(gateway.own)
    socket.setMulticastTTL(2)
    // it may have fired while the socket was made: nobody would hear it any more
    parent.throwIfAborted()
    if (deadline.signal.aborted) return undefined
    return await new Promise<URL | undefined>((resolve, reject) => {
      let heardCount = 0
      deadline.signal.addEventListener('abort', () => {
        if (parent.aborted) reject(parent.reason as Error)
        else resolve(undefined)
      }, { once: true })
      socket.on('message', (bytes, from) => {
        if (from.address !== gateway.router) return
        heardCount++
        const url = bytes.length > LIMITS.portMapDatagramBytes || heardCount > LIMITS.portMapDatagramCount ? undefined : descriptionUrl(bytes, gateway.router)
        if (url !== undefined) resolve(url)
      })
      for (const message of searchMessages()) {
        for (const host of [SSDP_GROUP, gateway.router]) socket.send(message, port, host, () => { /* a network without multicast: the router is asked by itself too */ })
      }
    })
  } finally {
    socket.close()
  }
}

/** One request to the router; no redirect is followed, nothing is kept open. @throws CarrierError ERR_NOT_AVAILABLE, ERR_TIMEOUT */
async function fetchText (clock: Clock, url: URL, init: { method: 'GET' | 'POST', headers: Record<string, string>, body: string }, parent: AbortSignal): Promise<{ status: number, text: string }> {
  using deadline = startDeadline(clock, LIMITS.portMapRequestMs, 'the router did not answer in time', parent)
  deadline.signal.throwIfAborted()
  return await new Promise((resolve, reject) => {
    const request = httpRequest(url, { method: init.method, headers: { ...init.headers, connection: 'close' }, agent: false, maxHeaderSize: LIMITS.controlHeaderBytes }, (response) => {
      const pieces: Buffer[] = []
      let byteCount = 0
      response.on('data', (piece: Buffer) => {
        byteCount += piece.length
        if (byteCount > LIMITS.portMapBodyBytes) request.destroy(new Error('its answer is too long'))
        else pieces.push(piece)
      })
      response.on('end', () => { resolve({ status: response.statusCode ?? 0, text: Buffer.concat(pieces).toString('utf8') }) })
      response.on('error', fail)
    })
    function fail (err: Error): void {
      deadline.signal.removeEventListener('abort', onAbort)
      reject(deadline.signal.aborted ? deadline.signal.reason as Error : new CarrierError('ERR_NOT_AVAILABLE', `the router could not be asked: ${errorMessage(err)}`, { cause: err }))
    }
    function onAbort (): void { request.destroy(new Error('given up')) }
    deadline.signal.addEventListener('abort', onAbort, { once: true })
    request.on('error', fail)
    request.end(init.body)
  })
}
