/** The real session managers over joined nodes in memory, with the switches of the fake ones. */
import { CarrierError, errorCode, wireCode } from '../../src/base/index.ts'
import type { Clock } from '../../src/base/index.ts'
import type { Did } from '../../src/identity/index.ts'
import type { SessionManager } from '../../src/session/index.ts'
import { createFakeNetwork } from '../unit/session/fake-node.ts'
import type { FakeSessionManager, FakeSessionPair } from './fake-sessions.ts'

/** Joins two devices; call `start` before the first session. */
export function createRealSessionPair (clock: Clock): FakeSessionPair & { aliceDid: Did, bobDid: Did, start: () => Promise<void> } {
  const network = createFakeNetwork(clock)
  const [alice, bob] = [network.device(), network.device()]
  const world: { failure: CarrierError | undefined, silence: PromiseWithResolvers<void> | undefined } = { failure: undefined, silence: undefined }
  network.beforeDial.run = async () => {
    await world.silence?.promise
    if (world.failure !== undefined) throw world.failure
  }
  return {
    aliceDid: alice.did,
    bobDid: bob.did,
    alice: counted(alice.manager),
    bob: counted(bob.manager),
    start: async () => {
      await alice.manager.start()
      await bob.manager.start()
    },
    loseLink: async () => {
      const closed = [alice.manager, bob.manager].filter((manager) => manager.list().length > 0).map(async (manager) => {
        await new Promise<void>((resolve) => {
          const remove = manager.on('session:closed', () => {
            remove()
            resolve()
          })
        })
      })
      for (const pair of network.pairs) pair.lose()
      await Promise.all(closed)
    },
    setOffline: (isOffline) => { world.failure = isOffline ? new CarrierError('ERR_PEER_OFFLINE', 'no path to the device') : undefined },
    setRefusal: (code) => { world.failure = code === undefined ? undefined : new CarrierError(code, 'no session') },
    setSilent: (isSilent) => {
      world.silence?.resolve()
      world.silence = isSilent ? Promise.withResolvers<void>() : undefined
    }
  }
}

function counted (manager: SessionManager): FakeSessionManager {
  const received: FakeSessionManager['received'] = []
  return {
    ...manager,
    received,
    openChannelCount: () => manager.list().reduce((sum, session) => sum + session.channelCount, 0),
    onChannel: (kind, handler) => {
      manager.onChannel(kind, async (request) => {
        const entry = { kind, message: request.message, answer: -1 }
        received.push(entry)
        await handler({
          ...request,
          get signal () { return request.signal },
          accept: () => {
            entry.answer = 0
            return request.accept()
          },
          refuse: (err) => {
            entry.answer = wireCode(errorCode(err))
            request.refuse(err)
          }
        })
      })
    }
  }
}
