/**
 * The texts of UPnP's Internet Gateway Device (SSDP, device description, SOAP), as far as a port mapping needs them. Nothing
 * here opens a socket. What a router says is searched for a few known members, never parsed as a whole: routers are sloppy,
 * and a parser of documents is what a hostile one would aim at.
 */

/** Where all routers of the local network listen. */
export const SSDP_GROUP = '239.255.255.250'
/** And at which port. */
export const SSDP_PORT = 1900

const SEARCH_TARGETS = ['urn:schemas-upnp-org:device:InternetGatewayDevice:1', 'urn:schemas-upnp-org:device:InternetGatewayDevice:2'] as const
const SERVICES = ['urn:schemas-upnp-org:service:WANIPConnection:2', 'urn:schemas-upnp-org:service:WANIPConnection:1', 'urn:schemas-upnp-org:service:WANPPPConnection:1'] as const
/** Services that a description may list; further ones are not looked at. */
const MAX_SERVICES = 64

/** The searches that are sent. */
export function searchMessages (): Buffer[] {
  return SEARCH_TARGETS.map((target) => Buffer.from(`M-SEARCH * HTTP/1.1\r\nHOST: ${SSDP_GROUP}:${SSDP_PORT}\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ${target}\r\n\r\n`))
}

/** Where the description is, of the answer to a search. It must be at `router` itself; undefined for anything else. */
export function descriptionUrl (answer: Uint8Array, router: string): URL | undefined {
  const text = Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength).toString('latin1')
  if (!/^HTTP\/1\.[01] 200\b/.test(text)) return undefined
  const location = /^location:[ \t]*(\S{1,512})[ \t]*$/im.exec(text)?.[1]
  return location === undefined ? undefined : urlAt(location, router)
}

/** The service that maps ports, and where it takes requests. */
export interface MapService { type: string, control: URL }

/** Finds the service in a description that was read from `base`. It must be at the same router; undefined when there is none. */
export function findMapService (description: string, base: URL): MapService | undefined {
  const found = new Map<string, URL>()
  let from = 0
  for (let count = 0; count < MAX_SERVICES; count++) {
    const start = description.indexOf('<service>', from)
    const end = start === -1 ? -1 : description.indexOf('</service>', start)
    if (end === -1) break
    const service = description.slice(start, end)
    from = end
    const type = memberOf(service, 'serviceType')
    const control = memberOf(service, 'controlURL')
    const url = control === undefined ? undefined : urlAt(control, base.hostname, base)
    if (type !== undefined && url !== undefined && !found.has(type)) found.set(type, url)
  }
  const type = SERVICES.find((one) => found.has(one))
  const control = type === undefined ? undefined : found.get(type)
  return type === undefined || control === undefined ? undefined : { type, control }
}

/** A request's headers and body. Arguments are numbers and addresses of ours: nothing in them needs an escape. */
export function soapRequest (type: string, action: string, args: Readonly<Record<string, string | number>>): { headers: Record<string, string>, body: string } {
  const members = Object.entries(args).map(([name, value]) => `<${name}>${value}</${name}>`).join('')
  const body = `<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:${action} xmlns:u="${type}">${members}</u:${action}></s:Body></s:Envelope>`
  return { headers: { 'content-type': 'text/xml; charset="utf-8"', soapaction: `"${type}#${action}"`, 'content-length': String(Buffer.byteLength(body)) }, body }
}

/** The text of the first element of this name, if it is short and plain. */
export function memberOf (xml: string, name: string): string | undefined {
  const start = xml.indexOf(`<${name}>`)
  const from = start + name.length + 2
  const end = start === -1 ? -1 : xml.indexOf(`</${name}>`, from)
  const text = end === -1 || end - from > 512 ? undefined : xml.slice(from, end).trim()
  return text === undefined || /[<>]/.test(text) ? undefined : text
}

/** A plain HTTP URL at this very host, or nothing: a router makes nobody ask somebody else. */
function urlAt (text: string, host: string, base?: URL): URL | undefined {
  const url = URL.parse(text.replaceAll('&amp;', '&'), base)
  return url?.protocol === 'http:' && url.hostname === host && url.username === '' ? url : undefined
}
