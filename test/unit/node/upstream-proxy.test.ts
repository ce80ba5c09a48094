/** Proxies: their names, what goes past them, and what hostile ones can do: nothing but be named in an error, soon and at no cost. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { after, describe, test } from 'node:test'
import { LIMITS, systemClock } from '../../../src/base/index.ts'
import { createUpstream } from '../../../src/node/upstream.ts'
import type { Upstream } from '../../../src/node/upstream.ts'
import { describeProxy, parseProxyCredentials, parseProxyUrl, usesProxy, withCredentials } from '../../../src/node/upstream-proxy.ts'
import { startConnectProxy } from '../../support/connect-proxy.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { startSocksProxy } from '../../support/socks-proxy.ts'
import { PATIENCE_MS, waitFor, within } from '../../support/wait.ts'

const NEVER = new AbortController().signal
const closers: Array<() => unknown> = []
after(async () => { for (const close of closers) await close() })

/** A server that does as it is told with each connection. */
async function startServer (onConnection: (socket: Socket) => void): Promise<{ port: number, sockets: Socket[] }> {
  const sockets: Socket[] = []
  const server: Server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => { /* clients that give up reset */ })
    onConnection(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, sockets }
}

function through (url: string): Upstream {
  return createUpstream(systemClock, { proxy: parseProxyUrl(url) })
}

describe('the name of a proxy', () => {
  test('kinds, default ports, brackets, percent signs', () => {
    const rest = { exceptions: [], skipsLoopback: false }
    assert.deepEqual(parseProxyUrl('http://proxy.example.org:3128'), { kind: 'http', host: 'proxy.example.org', port: 3128, ...rest })
    assert.deepEqual(parseProxyUrl('proxy:3128/'), { kind: 'http', host: 'proxy', port: 3128, ...rest })
    assert.deepEqual(parseProxyUrl('https://proxy'), { kind: 'https', host: 'proxy', port: 443, ...rest })
    assert.deepEqual(parseProxyUrl('socks5h://[::1]'), { kind: 'socks5', host: '::1', port: 1080, ...rest })
    assert.deepEqual(parseProxyUrl('http://a%40b:p%3Aw@proxy').credentials, { user: 'a@b', password: 'p:w' })
    assert.equal(describeProxy(parseProxyUrl('socks5://user:secret@[::1]:9')), 'socks5://[::1]:9')
  })

  test('what is wrong is said without the password', () => {
    for (const text of ['socks4://u:hunter2@proxy', 'http://u:hunter2@proxy/path', 'http://u:hunter2@', 'http://u:hunter2@proxy:0', 'http://u:hunter2@proxy:99999', 'http://a%3Ab:hunter2@proxy', 'http://u:hunter2%0d%0aX@proxy', `http://${'u'.repeat(256)}:hunter2@proxy`]) {
      assert.throws(() => parseProxyUrl(text), (err: Error & { code: string }) => {
        assert.equal(err.code, 'ERR_CONFIG', text)
        assert.doesNotMatch(`${err.message} ${JSON.stringify(err)} ${String(err.cause)}`, /hunter2/)
        return true
      })
    }
  })

  test('the file of credentials is one line', () => {
    assert.deepEqual(parseProxyCredentials('user:pass:word\n'), { user: 'user', password: 'pass:word' })
    for (const text of ['', 'user', ':password', 'a:b\nc:d']) assert.throws(() => parseProxyCredentials(text), { code: 'ERR_CONFIG' })
    assert.throws(() => withCredentials(parseProxyUrl('http://proxy'), { user: 'a:b', password: '' }), { code: 'ERR_CONFIG' })
  })

  test('what goes past it', () => {
    const proxy = parseProxyUrl('http://proxy', { exceptions: ['example.org', '.internal', '*.corp', '10.0.0.0/8', '192.0.2.7', '[2001:db8::]/32', '2001:db8:1::/48', 'only.port:443', '/8', '300.0.0.0/8', ''] })
    const isProxied = (host: string, port = 4001): boolean => usesProxy(proxy, { host, port })
    for (const host of ['example.org', 'EXAMPLE.org', 'a.b.example.org', 'x.internal', 'y.corp', '10.200.3.4', '192.0.2.7', '2001:db8:1::9']) assert.equal(isProxied(host), false, host)
    for (const host of ['notexample.org', 'example.org.evil.net', '11.0.0.1', '192.0.2.70', '2001:db9::1', '127.0.0.1', 'localhost']) assert.equal(isProxied(host), true, host)
    assert.deepEqual([isProxied('only.port', 443), isProxied('only.port', 80)], [false, true])
    assert.equal(usesProxy(parseProxyUrl('http://proxy', { exceptions: ['*'] }), { host: '1.2.3.4', port: 1 }), false)
    assert.equal(usesProxy(undefined, { host: '1.2.3.4', port: 1 }), false)
    const system = parseProxyUrl('http://proxy', { skipsLoopback: true })
    assert.deepEqual(['localhost', '127.0.0.9', '::1', '10.0.0.1'].map((host) => usesProxy(system, { host, port: 1 })), [false, false, false, true])
    assert.throws(() => parseProxyUrl('http://proxy', { exceptions: new Array<string>(LIMITS.proxyExceptionCount + 1).fill('a') }), { code: 'ERR_CONFIG' })
  })

  test('a node with a proxy may dial directly only what goes past it', () => {
    const upstream = createUpstream(systemClock, { proxy: parseProxyUrl('http://proxy', { exceptions: ['10.0.0.0/8'] }) })
    assert.deepEqual(['10.1.2.3', '192.0.2.1'].map((host) => upstream.mayDialDirectly(host)), [true, false])
    assert.equal(createUpstream(systemClock, {}).mayDialDirectly('192.0.2.1'), true)
  })
})

describe('an HTTP proxy', () => {
  test('makes a tunnel; what the target said at once is not lost', async () => {
    const { port } = await startServer((socket) => {
      socket.once('data', () => { socket.write('HTTP/1.1 200 OK\r\nX: y\r\n\r\nearly') })
      socket.on('data', (chunk) => { if (chunk.toString() === 'ping') socket.write(' pong') })
    })
    const socket = await through(`http://127.0.0.1:${port}`).open({ host: 'relay.example.org', port: 443 }, NEVER)
    socket.write('ping')
    let text = ''
    socket.on('data', (chunk) => { text += chunk.toString() })
    await waitFor('both', () => text === 'early pong', { deadlineMs: PATIENCE_MS, intervalMs: 5 })
    socket.destroy()
  })

  test('is sent the credentials, and names of hosts as they are', async () => {
    const { port } = await startServer((socket) => { socket.once('data', (chunk: Buffer) => { socket.write(`HTTP/1.0 200 x\n\n${chunk.toString('base64')}`) }) })
    const socket = await through(`http://user:secret@127.0.0.1:${port}`).open({ host: '2001:db8::1', port: 443 }, NEVER)
    const [echo] = await once(socket, 'data') as [Buffer]
    assert.equal(Buffer.from(echo.toString(), 'base64').toString(), `CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nProxy-Authorization: Basic ${Buffer.from('user:secret').toString('base64')}\r\n\r\n`)
    socket.destroy()
  })

  test('its refusals are explained, with the target and without the password', async () => {
    const proxy = await startConnectProxy({ credentials: 'user:secret', allows: (target) => target.endsWith(':443') })
    closers.push(proxy.close)
    const refusal = async (url: string, port = 443): Promise<string> => {
      let message = ''
      await assert.rejects(through(url).open({ host: '127.0.0.1', port }, NEVER), (err: Error & { code: string }) => {
        assert.equal(err.code, 'ERR_PROXY')
        message = err.message
        return true
      })
      assert.doesNotMatch(message, /secret|wrong-one/)
      return message
    }
    const at = `127.0.0.1:${proxy.port}`
    assert.match(await refusal(`http://${at}`), new RegExp(`^the proxy http://${at}: it wants a user name and password \\(407\\); put USER:PASSWORD`))
    assert.match(await refusal(`http://user:wrong-one@${at}`), /does not accept the user name and password \(407\)/)
    assert.match(await refusal(`http://user:secret@${at}`, 4001), /does not allow connections to 127\.0\.0\.1:4001 \(403\)/)
    assert.deepEqual(proxy.targets, [])
  })

  test('that nobody runs, cannot be reached', async () => {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    await new Promise<void>((resolve) => { server.close(() => { resolve() }) })
    await assert.rejects(through(`http://127.0.0.1:${port}`).open({ host: 'relay', port: 1 }, NEVER), { code: 'ERR_PROXY', message: new RegExp(`^the proxy http://127\\.0\\.0\\.1:${port}: it cannot be reached: .*ECONNREFUSED`) })
  })
})

describe('a SOCKS5 proxy', () => {
  test('connects; it resolves names, and is asked for what it wants', async () => {
    const echo = await startServer((socket) => { socket.pipe(socket) })
    for (const credentials of [undefined, { user: 'user', password: 'pass' }]) {
      const proxy = await startSocksProxy({ resolve: () => '127.0.0.1', ...(credentials === undefined ? {} : { credentials }) })
      closers.push(proxy.close)
      for (const host of ['relay.example.org', '127.0.0.1', '2001:db8::ff:1']) {
        const socket = await through(`socks5://${credentials === undefined ? '' : 'user:pass@'}127.0.0.1:${proxy.port}`).open({ host, port: echo.port }, NEVER)
        socket.write('hello')
        assert.equal(String((await once(socket, 'data') as [Buffer])[0]), 'hello')
        socket.destroy()
      }
      assert.deepEqual(proxy.targets, ['relay.example.org', '127.0.0.1', '2001:db8::ff:1'].map((host) => `${host}:${echo.port}`))
    }
  })

  test('its refusals are explained', async () => {
    const [rules, strict] = [await startSocksProxy({ reply: 2 }), await startSocksProxy({ credentials: { user: 'user', password: 'pass' } })]
    closers.push(rules.close, strict.close)
    const target = { host: 'relay', port: 4001 }
    await assert.rejects(through(`socks5://127.0.0.1:${rules.port}`).open(target, NEVER), { code: 'ERR_PROXY', message: /does not allow connections to relay:4001/ })
    await assert.rejects(through(`socks5://127.0.0.1:${strict.port}`).open(target, NEVER), { code: 'ERR_PROXY', message: /wants a user name and password/ })
    await assert.rejects(through(`socks5://user:no@127.0.0.1:${strict.port}`).open(target, NEVER), { code: 'ERR_PROXY', message: /does not accept the user name and password$/ })
  })
})

describe('something hostile instead of a proxy', () => {
  const HOSTILE: ReadonlyArray<[string, string, (socket: Socket) => void, RegExp]> = [
    ['http', 'a header without an end', (socket) => { pour(socket, Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n'), Buffer.alloc(4096, 'a')])) }, /no end within/],
    ['http', 'another greeting', (socket) => { socket.write('SSH-2.0-OpenSSH\r\n') }, /no HTTP proxy/],
    ['http', 'a status that is none', (socket) => { socket.write('HTTP/1.1 2000 OK\r\n\r\n') }, /no HTTP proxy/],
    ['http', 'a SOCKS answer', (socket) => { socket.write(Buffer.from([5, 0])) }, /no HTTP proxy/],
    ['http', 'an end', (socket) => { socket.end() }, /ended the connection/],
    ['http', 'a reset', (socket) => { socket.resetAndDestroy() }, /ended the connection|ECONNRESET/],
    ['http', 'half a header and an end', (socket) => { socket.end('HTTP/1.1 200 OK\r\n') }, /ended the connection/],
    ['socks5', 'HTTP', (socket) => { socket.write('HTTP/1.1 400 Bad Request\r\n\r\n') }, /no SOCKS5 proxy/],
    ['socks5', 'a method that was not offered', (socket) => { socket.write(Buffer.from([5, 9])) }, /wants a user name/],
    ['socks5', 'authentication that was not offered', (socket) => { socket.write(Buffer.from([5, 2])) }, /wants a user name/],
    ['socks5', 'another version in its reply', (socket) => { socket.write(Buffer.from([5, 0, 4, 0, 0, 1])) }, /no SOCKS5/],
    ['socks5', 'an address of no kind', (socket) => { socket.write(Buffer.from([5, 0, 5, 0, 0, 9])) }, /no SOCKS5/],
    ['socks5', 'half a reply', (socket) => { socket.end(Buffer.from([5, 0, 5, 0])) }, /ended the connection/]
  ]
  for (const [kind, what, behave, message] of HOSTILE) {
    test(`${kind}: ${what}`, async () => {
      const { port, sockets } = await startServer((socket) => {
        // its own end is seen by who reads only
        socket.resume()
        behave(socket)
      })
      await assert.rejects(within('the refusal', PATIENCE_MS, through(`${kind}://127.0.0.1:${port}`).open({ host: 'relay', port: 1 }, NEVER)), { code: 'ERR_PROXY', message })
      await waitFor('the socket to be closed', () => sockets.every((socket) => socket.destroyed || socket.readableEnded), { deadlineMs: PATIENCE_MS, intervalMs: 5 })
    })
  }

  for (const kind of ['http', 'https', 'socks5']) {
    test(`${kind}: silence and drops of bytes end after ${LIMITS.proxyHandshakeMs} ms, an abort at once`, async () => {
      const clock = createFakeClock()
      const { port, sockets } = await startServer((socket) => { socket.write(kind === 'http' ? 'HTTP' : '') })
      const upstream = createUpstream(clock, { proxy: parseProxyUrl(`${kind}://127.0.0.1:${port}`) })
      const opening = upstream.open({ host: 'relay', port: 1 }, NEVER)
      opening.catch(() => { /* asserted below */ })
      await waitFor('the connection', () => sockets.length === 1, { deadlineMs: PATIENCE_MS, intervalMs: 5 })
      await clock.advance(LIMITS.proxyHandshakeMs)
      await assert.rejects(within('the end of patience', PATIENCE_MS, opening), { code: 'ERR_PROXY', message: /does not answer/ })
      const controller = new AbortController()
      const aborted = upstream.open({ host: 'relay', port: 1 }, controller.signal)
      aborted.catch(() => { /* asserted below */ })
      await waitFor('the second connection', () => sockets.length === 2, { deadlineMs: PATIENCE_MS, intervalMs: 5 })
      controller.abort(new Error('not wanted any more'))
      await assert.rejects(within('the abort', PATIENCE_MS, aborted), /not wanted any more/)
      for (const socket of sockets) socket.resume()
      await waitFor('the sockets to be closed', () => sockets.every((socket) => socket.destroyed || socket.readableEnded), { deadlineMs: PATIENCE_MS, intervalMs: 5 })
    })
  }
})

/** Writes for as long as the other side takes it. */
function pour (socket: Socket, first: Buffer): void {
  const more = Buffer.alloc(4096, 'a')
  let isOpen = socket.write(first)
  const go = (): void => {
    while (isOpen && !socket.destroyed) isOpen = socket.write(more)
    isOpen = true
  }
  socket.on('drain', go)
  go()
}
