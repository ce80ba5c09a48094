import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultRouters, findGateway } from '../../../src/node/port-map-gateway.ts'
import { descriptionUrl, findMapService, memberOf, searchMessages, soapRequest } from '../../../src/node/port-map-upnp-wire.ts'
import { decodeNatPmpAddress, decodeNatPmpMap, decodePcpMap, encodeNatPmpMap, encodePcpMap } from '../../../src/node/port-map-wire.ts'

const nonce = Uint8Array.from({ length: 12 }, (_byte, index) => index + 1)
const request = { insidePort: 4001, outsidePort: 4001, lifetimeSeconds: 1200 }
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

test('PCP: the request as in RFC 6887, and what is no answer to it', () => {
  assert.equal(hex(encodePcpMap(request, '192.168.1.5', nonce)),
    '02010000' + '000004b0' + '00000000000000000000ffffc0a80105' + '0102030405060708090a0b0c' + '06000000' + '0fa1' + '0fa1' + '00000000000000000000ffff00000000')
  const answer = Buffer.from('02810000' + '00000258' + '00000001' + '000000000000000000000000' + '0102030405060708090a0b0c' + '06000000' + '0fa1' + '1389' + '00000000000000000000ffffcb007105', 'hex')
  assert.deepEqual(decodePcpMap(answer, request, nonce), { grant: { outsidePort: 5001, lifetimeSeconds: 600, outsideHost: '203.0.113.5' } })
  for (const [at, value] of [[0, 1], [1, 1], [24, 9], [36, 17], [41, 0]] as const) {
    const other = Buffer.from(answer)
    other[at] = value
    assert.equal(decodePcpMap(other, request, nonce), undefined, `byte ${at}`)
  }
  for (const length of [0, 3, 23, 59]) assert.equal(decodePcpMap(answer.subarray(0, length), request, nonce), undefined)
  answer[3] = 2
  assert.deepEqual(decodePcpMap(answer.subarray(0, 24), request, nonce), { refusal: { code: 2, text: 'it does not allow it' } })
  assert.deepEqual(decodePcpMap(Buffer.from('00810001', 'hex'), request, nonce), { refusal: { code: 1, text: 'it speaks another version' } }, 'a router that speaks NAT-PMP only')
})

test('NAT-PMP: the requests as in RFC 6886, and what is no answer to them', () => {
  assert.equal(hex(encodeNatPmpMap(request)), '00020000' + '0fa1' + '0fa1' + '000004b0')
  assert.equal(hex(encodeNatPmpMap({ ...request, lifetimeSeconds: 0 })), '00020000' + '0fa1' + '0000' + '00000000')
  const answer = Buffer.from('00820000' + '00000001' + '0fa1' + '1389' + '00000258', 'hex')
  assert.deepEqual(decodeNatPmpMap(answer, request), { grant: { outsidePort: 5001, lifetimeSeconds: 600 } })
  assert.equal(decodeNatPmpMap(answer, { insidePort: 1 }), undefined)
  assert.equal(decodeNatPmpMap(answer.subarray(0, 15), request), undefined)
  assert.deepEqual(decodeNatPmpMap(Buffer.from('00820002', 'hex'), request), { refusal: { code: 2, text: 'port mapping is switched off there' } })
  assert.deepEqual(decodeNatPmpAddress(Buffer.from('0080000000000001cb007105', 'hex')), { grant: { outsideHost: '203.0.113.5' } })
  assert.equal(decodeNatPmpAddress(Buffer.from('0082000000000001cb007105', 'hex')), undefined)
})

test('the default router of a routing table', async () => {
  const table = [
    'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
    'wlan0\t00000000\t0201A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0',
    'eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0',
    'tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0',
    'eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0', ''
  ].join('\n')
  assert.deepEqual(defaultRouters(table), ['192.168.1.1', '192.168.1.2'])
  const eth0 = [{ address: '192.168.1.5', family: 'IPv4' as const, internal: false, netmask: '255.255.255.0', mac: '', cidr: '192.168.1.5/24' }]
  assert.deepEqual(await findGateway({ eth0 }, async () => table), { router: '192.168.1.1', own: '192.168.1.5' })
  assert.deepEqual(await findGateway({ eth0 }, async () => { throw new Error('ENOENT') }), { router: '192.168.1.1', own: '192.168.1.5' })
  assert.equal(await findGateway({}, async () => table), undefined)
  assert.equal(await findGateway({ eth0: [{ ...eth0[0], address: '203.0.113.5', cidr: '203.0.113.5/24' }] as typeof eth0 }, async () => table), undefined, 'no NAT, no map')
})

test('SSDP: only a description at the router itself is looked at', () => {
  for (const message of searchMessages()) assert.match(message.toString(), /^M-SEARCH \* HTTP\/1\.1\r\n[^]*ST: urn:schemas-upnp-org:device:InternetGatewayDevice:[12]\r\n\r\n$/)
  const answer = (location: string): Buffer => Buffer.from(`HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nLOCATION: ${location}\r\n\r\n`)
  assert.equal(descriptionUrl(answer('http://192.168.1.1:5000/root.xml'), '192.168.1.1')?.href, 'http://192.168.1.1:5000/root.xml')
  for (const wrong of ['http://192.168.1.2/root.xml', 'https://192.168.1.1/', 'file:///etc/passwd', 'http://a:b@192.168.1.1/', 'http://192.168.1.1.example.com/', 'nothing', `http://192.168.1.1/${'a'.repeat(600)}`]) {
    assert.equal(descriptionUrl(answer(wrong), '192.168.1.1'), undefined, wrong)
  }
  assert.equal(descriptionUrl(Buffer.from('NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/\r\n\r\n'), '192.168.1.1'), undefined)
  assert.equal(descriptionUrl(Buffer.alloc(1_000, 'A'), '192.168.1.1'), undefined)
})

test('UPnP: the service in a description, the best version first, at the router only', () => {
  const base = new URL('http://192.168.1.1:5000/desc/root.xml')
  const service = (type: string, control: string): string => `<service><serviceType>urn:schemas-upnp-org:service:${type}</serviceType><SCPDURL>/x</SCPDURL><controlURL> ${control} </controlURL></service>`
  const description = `<root>${service('Layer3Forwarding:1', '/l3')}<device>${service('WANIPConnection:1', '/ctl/one?a=1&amp;b=2')}${service('WANIPConnection:2', 'two')}</device></root>`
  assert.equal(findMapService(description, base)?.control.href, 'http://192.168.1.1:5000/desc/two')
  assert.equal(findMapService(description.replace('Connection:2', 'Connection:9'), base)?.control.href, 'http://192.168.1.1:5000/ctl/one?a=1&b=2')
  assert.equal(findMapService(service('WANIPConnection:1', 'http://192.168.1.9/ctl'), base), undefined)
  for (const broken of ['', '<service>', '<service></service>', '<service>'.repeat(10_000), service('WANIPConnection:1', `<b>${'/x'.repeat(1_000)}</b>`)]) assert.equal(findMapService(broken, base), undefined)
  assert.equal(memberOf('<a><NewExternalIPAddress>203.0.113.5</NewExternalIPAddress></a>', 'NewExternalIPAddress'), '203.0.113.5')
  assert.equal(memberOf(`<x>${'1'.repeat(600)}</x>`, 'x'), undefined)
  const { headers, body } = soapRequest('urn:t', 'Do', { NewPort: 7, NewHost: '' })
  assert.equal(headers['soapaction'], '"urn:t#Do"')
  assert.equal(headers['content-length'], String(body.length))
  assert.match(body, /<u:Do xmlns:u="urn:t"><NewPort>7<\/NewPort><NewHost><\/NewHost><\/u:Do>/)
})
