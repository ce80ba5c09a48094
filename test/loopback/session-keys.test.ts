/** TLS keys of links that carry much: a fresh splice takes the place of the one in use, and every link is proven in the session. */
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import type { SessionEvents } from '../../src/session/index.ts'
import type { ChannelHandler } from '../../src/session/types.ts'
import { startTraffic } from '../support/channel-traffic.ts'
import { createSocketNetwork } from '../support/socket-network.ts'
import { waitFor, within } from '../support/wait.ts'

const MIB = 1024 * 1024
const DEADLINE_MS = 240_000

/** A relay that only copies. */
const copy = (near: Socket, far: Socket): void => {
  near.pipe(far).pipe(near)
}

describe('keys of TLS links', () => {
  it('with an end of an older release nothing is proven on channel 0, and everything works', async () => {
    const network = createSocketNetwork({ middle: () => copy })
    const devices = [await network.device(), await network.device({ isOlder: true })] as const
    try {
      for (const { sessions } of devices) {
        sessions.onChannel('echo', async (request) => {
          const channel = request.accept()
          channel.pipe(channel)
        })
        await sessions.start()
      }
      const session = await devices[0].sessions.open(devices[1].did)
      const channel = session.openChannel('echo', new Uint8Array(0))
      await waitFor('the splice', () => session.link === 'splice', { deadlineMs: DEADLINE_MS, intervalMs: 5 })
      channel.end('over the splice')
      assert.equal(Buffer.from(await within('the echo', DEADLINE_MS, buffer(channel))).toString(), 'over the splice')
      for (const { metrics } of devices) assert.ok(!(await metrics.text()).includes('carrier_session_auth_total{'))
    } finally {
      await Promise.all(devices.map(async ({ sessions }) => { await sessions.stop() }))
    }
  })

  it('after so many bytes a fresh splice carries the session: no loss, no wrong byte, nothing left over; every link in use is proven', async () => {
    const network = createSocketNetwork({ middle: () => copy, keyLimits: { maxBytes: 24 * MIB, maxAgeMs: 86_400_000 } })
    const devices = [await network.device(), await network.device()] as const
    const stories = devices.map(({ sessions }) => {
      const story: string[] = []
      for (const name of ['session:link', 'session:lost', 'session:closed'] as const satisfies ReadonlyArray<keyof SessionEvents>) {
        sessions.on(name, (payload) => { story.push('link' in payload ? `${payload.from} ${payload.link}` : `${name} ${'error' in payload ? payload.error.message : ''}`) })
      }
      return story
    })
    const told = (): string => JSON.stringify(stories)
    const proofs = async (): Promise<number[]> => Promise.all(devices.map(async ({ metrics }) => Number(/carrier_session_auth_total\{result="ok"\} (\d+)/.exec(await metrics.text())?.[1] ?? 0)))
    const handlers = new Map<string, ChannelHandler>()
    try {
      for (const { sessions } of devices) {
        sessions.onChannel('traffic', async (request) => { await handlers.get('traffic')?.(request) })
        await sessions.start()
      }
      const [one, other] = await Promise.all([devices[0].sessions.open(devices[1].did), devices[1].sessions.open(devices[0].did)])
      const traffic = startTraffic([one, other], handlers, { channelCount: 1, leastBytes: MIB, seed: 'keys' })
      const count = (fits: (line: string) => boolean): number => Math.min(...stories.map((story) => story.filter(fits).length))
      // a process that stands still for long at the wrong moment goes over the stream: what counts is that it need not
      const isRenewed = (): boolean => count((line) => line.endsWith(' splice')) >= 3 && count((line) => line === 'splice splice') >= 1
      const isBroken = (): boolean => stories.some((story) => story.some((line) => line.startsWith('session:')))
      await waitFor('the session to move to a fresh splice twice', () => isRenewed() || isBroken(), { deadlineMs: DEADLINE_MS, intervalMs: 5 }).catch((err: unknown) => { throw new Error(`${String(err)}; ${told()}`, { cause: err }) })
      traffic.finish()
      await within('the end of the traffic', DEADLINE_MS, traffic.done)
      traffic.assertSame()
      assert.ok(!isBroken(), `never lost: ${told()}`)
      assert.ok(network.spliceCount() >= 3)
      const [first = 0, second = 0] = await proofs()
      assert.ok(first >= 1 && second >= 1)
      await waitFor('the proof of the link in use', async () => {
        const now = await proofs()
        return now.every((count) => count >= 2)
      }, { deadlineMs: DEADLINE_MS, intervalMs: 50 })
    } finally {
      await Promise.all(devices.map(async ({ sessions }) => { await sessions.stop() }))
    }
  })
})
