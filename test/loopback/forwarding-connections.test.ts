/** Connections through a forward: bytes, ends, resets, back-pressure. Real sockets, joined sessions in memory. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { startForwardingPair } from '../support/forwarding-pair.ts'
import type { ForwardingPair } from '../support/forwarding-pair.ts'
import { connectTo, endOf, readAll, startEcho, startTarget } from '../support/target-server.ts'
import type { TargetServer } from '../support/target-server.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, untilStill, waitFor, within } from '../support/wait.ts'

for (const sessionKind of ['fake', 'real'] as const) {
  describe(`connections through a forward, on ${sessionKind} sessions`, () => {
    let pair: ForwardingPair
    const targets: TargetServer[] = []

    before(async () => { pair = await startForwardingPair({ sessionKind }) })
    after(async () => {
      await pair.stop()
      for (const target of targets) await target.close()
      assert.equal(pair.sessions.alice.openChannelCount() + pair.sessions.bob.openChannelCount(), 0, 'no channel is left')
    })

    let serviceCount = 0
    async function offer (target: TargetServer): Promise<string> {
      targets.push(target)
      const name = `service-${++serviceCount}`
      pair.office.forwarding.serve(name, target.target, { allow: ['laptop'] })
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: `office/${name}` })
      assert.equal(forward.state, 'active')
      return forward.listen
    }

    async function settled (): Promise<void> {
      await waitFor('all connections to be gone', () => pair.office.forwarding.services().every((service) => service.connectionCount === 0) &&
      pair.laptop.forwarding.forwards().every((forward) => forward.connectionCount === 0), PATIENT)
    }

    it('500 parallel connections each get their own bytes back', async () => {
      const listen = await offer(await startEcho())
      await Promise.all(Array.from({ length: 500 }, async () => {
        const socket = await connectTo(listen)
        const sent = randomBytes(20_000)
        socket.end(sent)
        const received = await readAll(socket)
        assert.equal(sha256(received), sha256(sent))
      }))
      await settled()
    })

    it('1000 connections one after the other leave nothing behind', async () => {
      const echo = await startEcho()
      const listen = await offer(echo)
      for (let index = 0; index < 1000; index++) {
        const socket = await connectTo(listen)
        socket.end(`hello ${index}`)
        assert.equal((await readAll(socket)).toString(), `hello ${index}`)
      }
      await settled()
      // the target's own ends: the kernel tells it of the last one after us
      await waitFor('the target to be left alone', () => echo.sockets.size === 0, PATIENT)
    })

    it('32 MiB each way at the same time arrive whole, with a half-close in both directions', async () => {
      const size = 32 * 1024 * 1024
      const down = randomBytes(size)
      const up = randomBytes(size)
      let received = ''
      const listen = await offer(await startTarget((socket) => {
        socket.end(down)
        void readAll(socket).then((bytes) => { received = sha256(bytes) }, ignoreProbe)
      }))
      const socket = await connectTo(listen)
      socket.end(up)
      assert.equal(sha256(await readAll(socket)), sha256(down))
      await waitFor('the target to have read everything', () => received !== '', PATIENT)
      assert.equal(received, sha256(up))
      await settled()
    })

    it('half-close: a client that has said everything still gets a late answer', async () => {
      const listen = await offer(await startTarget((socket) => {
        void readAll(socket).then((bytes) => { socket.end(`got ${bytes.length}`) }, ignoreProbe)
      }))
      const socket = await connectTo(listen)
      socket.end('12345')
      assert.equal((await readAll(socket)).toString(), 'got 5')
      await settled()
    })

    it('half-close: a target that has said everything still hears the client', async () => {
      let heard = ''
      const listen = await offer(await startTarget((socket) => {
        socket.end('bye')
        void readAll(socket).then((bytes) => { heard = bytes.toString() }, ignoreProbe)
      }))
      const socket = await connectTo(listen)
      await once(socket.resume(), 'end')
      socket.end('one more thing')
      await waitFor('the target to hear it', () => heard === 'one more thing', PATIENT)
      await settled()
    })

    it('a reset of the target is a reset at the client, never an end (I4)', async () => {
      const target = await startTarget((socket) => { socket.once('data', () => { socket.resetAndDestroy() }) })
      const listen = await offer(target)
      const socket = await connectTo(listen)
      socket.write('x')
      assert.equal(await within('the reset', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
      await settled()
    })

    it('a reset of the client is a reset at the target, never an end (I4)', async () => {
      let ending: Promise<string> | undefined
      const listen = await offer(await startTarget((socket) => { socket.once('data', () => { ending = endOf(socket) }) }))
      const socket = await connectTo(listen)
      socket.write('x')
      await waitFor('the target to be connected', () => ending !== undefined, PATIENT)
      socket.resetAndDestroy()
      assert.equal(await within('the reset', PATIENCE_MS, ending ?? Promise.reject(new Error('none'))), 'ECONNRESET')
      await settled()
    })

    it('I4: a lost link is a reset at both ends, never a clean end', async () => {
      let ending: Promise<string> | undefined
      const listen = await offer(await startTarget((socket) => {
        socket.write('hello')
        ending = endOf(socket)
      }))
      const socket = await connectTo(listen)
      await once(socket, 'data')
      await pair.sessions.loseLink()
      assert.equal(await within('the reset at the client', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
      assert.equal(await within('the reset at the target', PATIENCE_MS, ending ?? Promise.reject(new Error('none'))), 'ECONNRESET')
      await settled()
    })

    it('I4: a link lost while the other direction is already ended is still a reset', async () => {
      let ending: Promise<string> | undefined
      const listen = await offer(await startTarget((socket) => {
        socket.end('all I have')
        ending = endOf(socket)
      }))
      const socket = await connectTo(listen)
      await once(socket.resume(), 'end')
      await pair.sessions.loseLink()
      assert.equal(await within('the reset at the target', PATIENCE_MS, ending ?? Promise.reject(new Error('none'))), 'ECONNRESET')
      await waitFor('a write to fail at the client', async () => {
        socket.write('x')
        return socket.destroyed
      }, PATIENT)
      await settled()
    })

    it('a client that does not read stops the target, and nothing grows meanwhile', async () => {
      let written = 0
      const listen = await offer(await startTarget((socket) => {
        const chunk = Buffer.alloc(65_536)
        const more = (): void => {
          while (!socket.destroyed && written < 256 * 1024 * 1024) {
            written += chunk.length
            if (!socket.write(chunk)) {
              socket.once('drain', more)
              return
            }
          }
        }
        more()
      }))
      const socket = connect({ host: '127.0.0.1', port: Number(listen.split(':')[1]) })
      socket.on('error', () => {})
      socket.pause()
      await once(socket, 'connect')
      await untilStill('the target', () => written, 300)
      assert.ok(written < 32 * 1024 * 1024, `the target could write ${written} bytes`)
      socket.resetAndDestroy()
      await settled()
    })

    it('a unix socket can be a target', async () => {
      const path = join(makeTempDirectory('unix'), 'app.sock')
      const listen = await offer(await startTarget((socket) => { socket.pipe(socket) }, { path }))
      const socket = await connectTo(listen)
      socket.end('over unix')
      assert.equal((await readAll(socket)).toString(), 'over unix')
      await settled()
    })

    it('dial gives one pipe to a service, with half-close', async () => {
      const target = await startEcho()
      targets.push(target)
      pair.office.forwarding.serve('piped', target.target, { allow: ['laptop'] })
      const channel = await pair.laptop.forwarding.dial('office/piped')
      channel.end('through the pipe')
      const chunks: Buffer[] = []
      for await (const chunk of channel) chunks.push(chunk as Buffer)
      assert.equal(Buffer.concat(chunks).toString(), 'through the pipe')
      await settled()
    })
  })
}

/** The probe that opens a forward closes its connection at once. */
function ignoreProbe (): void {}

function sha256 (bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
