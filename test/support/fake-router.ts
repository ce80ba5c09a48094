/** A router that maps ports, on loopback: NAT-PMP, PCP, or UPnP, as told. */
import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** How the router behaves; may be changed at any time. */
export interface FakeRouterInit {
  speaks: 'pcp' | 'nat-pmp' | 'upnp' | 'nothing'
  outsideHost: string
  /** Outside ports that others hold. */
  taken?: number[]
  /** UPnP: leases without an end only. */
  isPermanentOnly?: boolean
  /** Sends this in place of every answer over UDP. */
  garbage?: Uint8Array
  /** UPnP: what the description is, in place of the right one. */
  description?: string
}

/** The router. */
export interface FakeRouter {
  behaviour: FakeRouterInit
  /** Mappings by outside port. */
  mappings: Map<number, { insidePort: number, lifetimeSeconds: number, /** Its name, of PCP. */ nonce?: string }>
  /** What was asked so far, oldest first. */
  asked: string[]
  /** UDP port of PCP and NAT-PMP, and of SSDP. */
  port: number
  close: () => Promise<void>
}

const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:1'

/** Starts a router at 127.0.0.1. */
export async function startFakeRouter (init: FakeRouterInit): Promise<FakeRouter> {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const http = createServer((request, response) => {
    let body = ''
    request.on('data', (piece: Buffer) => { body += piece.toString() })
    request.on('end', () => {
      const [status, text] = request.method === 'GET' ? [200, router.behaviour.description ?? `<root><service><serviceType>${SERVICE}</serviceType><controlURL>/control</controlURL></service></root>`] as const : soap(router, body)
      response.writeHead(status, { 'content-type': 'text/xml' })
      response.end(text)
    })
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const httpPort = (http.address() as AddressInfo).port
  const router: FakeRouter = {
    behaviour: init,
    mappings: new Map(),
    asked: [],
    port: socket.address().port,
    close: async () => {
      socket.close()
      http.closeAllConnections()
      http.close()
      await once(http, 'close')
    }
  }
  socket.on('message', (bytes, from) => { answer(router, socket, bytes, from, httpPort) })
  return router
}

function answer (router: FakeRouter, socket: Socket, bytes: Buffer, from: { port: number, address: string }, httpPort: number): void {
  const { speaks, garbage, outsideHost } = router.behaviour
  const say = (reply: Uint8Array): void => { socket.send(garbage ?? reply, from.port, from.address) }
  if (bytes.toString('latin1', 0, 8) === 'M-SEARCH') {
    if (speaks === 'upnp') say(Buffer.from(`HTTP/1.1 200 OK\r\nLOCATION: http://127.0.0.1:${httpPort}/root.xml\r\n\r\n`))
    return
  }
  if (speaks !== 'pcp' && speaks !== 'nat-pmp') return
  const outside = outsideHost.split('.').map(Number)
  if (bytes[0] === 2 && speaks === 'pcp') {
    const lifetimeSeconds = bytes.readUInt32BE(4)
    const [nonce, insidePort] = [bytes.toString('hex', 24, 36), bytes.readUInt16BE(40)]
    router.asked.push(`pcp ${lifetimeSeconds}`)
    // RFC 6887 11.3: whoever does not know its name may not change a mapping
    const isForeign = [...router.mappings.values()].some((mapping) => mapping.insidePort === insidePort && mapping.nonce !== nonce)
    const outsidePort = isForeign ? undefined : grant(router, insidePort, bytes.readUInt16BE(42), lifetimeSeconds, nonce)
    const reply = Buffer.from(bytes)
    reply[1] = 0x81
    reply[3] = isForeign ? 2 : outsidePort === undefined ? 11 : 0
    reply.fill(0, 8, 24)
    reply.writeUInt16BE(outsidePort ?? 0, 42)
    reply.set([...new Uint8Array(10), 0xff, 0xff, ...outside], 44)
    say(reply)
  } else if (bytes[0] === 2) {
    say(Buffer.from('0081000100000001', 'hex'))
  } else if (bytes[1] === 0) {
    say(Buffer.concat([Buffer.from('0080000000000001', 'hex'), Buffer.from(outside)]))
  } else {
    const lifetimeSeconds = bytes.readUInt32BE(8)
    const outsidePort = grant(router, bytes.readUInt16BE(4), bytes.readUInt16BE(6), lifetimeSeconds)
    router.asked.push(`nat-pmp ${lifetimeSeconds}`)
    const reply = Buffer.alloc(16)
    reply[1] = 0x82
    reply[3] = outsidePort === undefined ? 4 : 0
    bytes.copy(reply, 8, 4, 6)
    reply.writeUInt16BE(outsidePort ?? 0, 10)
    reply.writeUInt32BE(lifetimeSeconds, 12)
    say(reply)
  }
}

/** As PCP and NAT-PMP: a taken port is replaced by another. */
function grant ({ mappings, behaviour }: FakeRouter, insidePort: number, wanted: number, lifetimeSeconds: number, nonce?: string): number | undefined {
  for (const [outsidePort, mapping] of mappings) if (mapping.insidePort === insidePort) mappings.delete(outsidePort)
  if (lifetimeSeconds === 0) return wanted
  const outsidePort = behaviour.taken?.includes(wanted) === true ? wanted + 1000 : wanted
  mappings.set(outsidePort, { insidePort, lifetimeSeconds, ...(nonce === undefined ? {} : { nonce }) })
  return outsidePort
}

function soap (router: FakeRouter, body: string): [number, string] {
  const member = (name: string): string => new RegExp(`<${name}>([^<]*)</${name}>`).exec(body)?.[1] ?? ''
  const fault = (code: number): [number, string] => [500, `<s:Fault><detail><UPnPError><errorCode>${code}</errorCode></UPnPError></detail></s:Fault>`]
  const outsidePort = Number(member('NewExternalPort'))
  const lifetimeSeconds = Number(member('NewLeaseDuration'))
  if (body.includes('AddPortMapping')) {
    router.asked.push(`upnp ${lifetimeSeconds}`)
    if (router.behaviour.isPermanentOnly === true && lifetimeSeconds !== 0) return fault(725)
    if (router.behaviour.taken?.includes(outsidePort) === true) return fault(718)
    router.mappings.set(outsidePort, { insidePort: Number(member('NewInternalPort')), lifetimeSeconds })
    return [200, '<ok/>']
  }
  if (body.includes('DeletePortMapping')) return router.mappings.delete(outsidePort) ? [200, '<ok/>'] : fault(714)
  if (body.includes('GetExternalIPAddress')) return [200, `<NewExternalIPAddress>${router.behaviour.outsideHost}</NewExternalIPAddress>`]
  return fault(401)
}
