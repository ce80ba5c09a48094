import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, it } from 'node:test'
import { resetSocket } from '../../../src/forwarding/join.ts'
import { connectTo, endOf, startTarget } from '../../support/target-server.ts'
import type { TargetServer } from '../../support/target-server.ts'

describe('resetting a socket', () => {
  async function connected (): Promise<{ client: Socket, server: Socket, target: TargetServer }> {
    const arrived = Promise.withResolvers<Socket>()
    const target = await startTarget(arrived.resolve)
    const client = await connectTo(target.port)
    return { client, server: await arrived.promise, target }
  }

  it('I4: the other end sees a reset, never an end', async () => {
    const { client, server, target } = await connected()
    const ending = endOf(client)
    resetSocket(server)
    resetSocket(server)
    assert.equal(await ending, 'ECONNRESET')
    await target.close()
  })

  it('I4: also when bytes and an end are still on their way to it', async () => {
    const { client, server, target } = await connected()
    client.pause()
    server.write(Buffer.alloc(16 * 1024 * 1024))
    server.end()
    resetSocket(server)
    assert.equal(await endOf(client), 'ECONNRESET')
    await target.close()
  })

  it('a socket that is just being shut down is freed too', async () => {
    const { client, server, target } = await connected()
    server.end()
    const closed = once(server, 'close')
    resetSocket(server)
    await closed
    assert.equal(target.sockets.size, 0)
    client.destroy()
    await target.close()
  })
})
