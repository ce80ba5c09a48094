/**
 * Addresses that a hostile friend offers (DESIGN section 4): what is outside the rules gets no packet. Each list holds one
 * public address too, which is allowed: its packet shows that the list was tried, and that the tap sees what is sent.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { it } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { createControlClient } from '../../src/control/client/index.ts'
import type { ControlClient } from '../../src/control/client/index.ts'
import { openKeystore } from '../../src/identity/index.ts'
import { createRelay } from '../support/bootstrap.ts'
import { createDaemon } from '../support/daemon.ts'
import type { Daemon } from '../support/daemon.ts'
import { startProgram } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'
import { packetsOf, startCapture } from './capture.ts'
import type { IpPacket } from './capture.ts'
import type { HostileInit, HostileStep } from './hostile-friend-main.ts'
import { openLab, UPLINK } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'

const PROGRAM = join(import.meta.dirname, 'hostile-friend-main.ts')
const TCP = 6
const TARGET_PORT = 7000
const HELLO_PORT = 7100
const HINT_PORT = 7200
/** The ports of the relays that a node uses by itself. */
const RELAY_PORTS = [4001, 4002]
/** Behind this one the victim does not even look: the whole hello is refused. */
const THOUSAND_PORTS_FROM = 8000

/** Hosts that a friend must not be able to point at, three for each punch. */
const FORBIDDEN = [
  ['127.0.0.1', '169.254.1.1', '10.9.9.9'],
  ['192.168.1.1', '172.16.0.9', '224.0.0.1'],
  ['0.0.0.0', '255.255.255.255', '100.64.0.1'],
  ['::1', 'fe80::1', 'fd00::1'],
  ['ff02::1', '2002:7f00:1::1', '::ffff:127.0.0.1'],
  ['50.0.1.2', '50.0.2.2', '10.1.0.2']
] as const
/** A victim that controls the session asks at once and after two seconds; the third time is half a minute away. */
const ANSWERED_COUNT = 2

describeInLab('addresses that a hostile friend offers', () => {
  for (const role of ['controller', 'other end'] as const) {
    it(`the hostile friend is the ${role} of the session: nothing is sent to loopback, neighbours, foreign networks, relays or multicast`, async () => {
      const lab = await openLab({ relayCount: 2, line: { delayMs: 20 } })
      try {
        await offered(lab, role)
      } finally {
        // ends the programs inside too
        await lab.close()
      }
    })
  }
})

async function offered (lab: Lab, role: 'controller' | 'other end'): Promise<void> {
  const directory = makeTempDirectory('candidates')
  const places = await placesByKey(directory)
  const relays = await Promise.all(lab.relays.map(async (place) => createRelay({ place, dataDirectory: join(directory, place.name) })))
  await Promise.all(relays.map(async (relay) => relay.start()))
  const addresses = relays.map((relay) => relay.address())
  const office = createDaemon({ name: 'office', dataDirectory: places.middle, place: lab.office, relays: addresses })
  // the lower key is the controller's
  const hostileDirectory = role === 'controller' ? places.lowest : places.highest
  const laptop = createDaemon({ name: 'laptop', dataDirectory: hostileDirectory, place: lab.laptop, relays: addresses })
  await Promise.all([office.start(), laptop.start()])
  const control = createControlClient(office)
  await befriend(control, createControlClient(laptop))
  await laptop.stop()
  await waitFor('the end of the session with the honest daemon', async () => (await office.status()).friends[0]?.presence !== 'online', { deadlineMs: PATIENCE_MS })

  const taps = await Promise.all([UPLINK, 'lo'].map(async (device) => startCapture(lab.office, device, 'ip or ip6')))
  const batches = FORBIDDEN.slice(0, role === 'controller' ? FORBIDDEN.length : ANSWERED_COUNT).map((hosts, index) => [...hosts, lab.cafe.address].map((host) => ({ host, port: TARGET_PORT + index })))
  const init: HostileInit = {
    dataDirectory: hostileDirectory,
    victim: (await office.json<{ did: string }>('id')).did,
    relay: addresses[0] ?? '',
    helloAddresses: [...['127.0.0.1', '169.254.1.1', '10.9.9.9', '224.0.0.1', '50.0.1.2', '10.1.0.2'].map((host) => `/ip4/${host}/tcp/${HELLO_PORT}`), `/ip6/::1/tcp/${HELLO_PORT}`, `/ip4/${lab.cafe.address}/tcp/${HELLO_PORT}`],
    relays: await Promise.all(['127.0.0.1', '169.254.1.1', '10.9.9.9', lab.cafe.address].map(async (host) => `/ip4/${host}/tcp/${HINT_PORT}/p2p/${await somePeerId()}`)),
    batches
  }
  const hostile = startProgram(process.execPath, ['--conditions=carrier-source', PROGRAM, JSON.stringify(init)], { place: lab.laptop, name: 'hostile friend' })
  if (role === 'other end') await useSession(office, control)
  await hostile.exited
  const steps = hostile.stdout().split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as HostileStep)
  assert.ok(steps.some((step) => step.step === 'thousand' && step.code !== 'ok'), `a hello with a thousand addresses: ${hostile.stdout()}${hostile.stderr()}`)
  assert.deepEqual(steps.flatMap((step) => step.step === 'session' ? [step.isController] : []), [role === 'controller'])
  assert.deepEqual(steps.flatMap((step) => step.step === 'batch' ? [step.answer] : []), batches.map(() => 'answer'), 'the victim took part in every punch')
  assert.deepEqual(steps.flatMap((step) => step.step === 'flood' ? [step.ended] : []), [true], 'a thousand addresses in one frame end the session')
  assert.ok(steps.some((step) => step.step === 'relays' && step.isTaken), 'the victim took no notice of the relays')
  // the session is wanted back: now the addresses of the hello are dialled, and the relays
  for (const port of [HELLO_PORT, HINT_PORT]) {
    await waitFor(`the address with port ${port} that may be dialled`, () => packetsOf(taps[0]?.soFar() ?? Buffer.alloc(0)).some((packet) => packet.to === lab.cafe.address && packet.toPort === port), { deadlineMs: PATIENCE_MS })
  }
  const [uplink = [], loopback = []] = await Promise.all(taps.map(async (tap) => packetsOf(await tap.stop())))
  const sent = [...uplink.filter(({ from }) => from === lab.office.address), ...loopback].filter(({ protocol }) => protocol === TCP)
  const isRelay = ({ to, toPort }: IpPacket): boolean => RELAY_PORTS.includes(toPort) && lab.relays.some(({ address }) => address === to)
  const isAllowed = ({ to, toPort }: IpPacket): boolean => to === lab.cafe.address && toPort < THOUSAND_PORTS_FROM
  assert.deepEqual(sent.filter((packet) => !isRelay(packet) && !isAllowed(packet)), [], 'a packet went where no friend may point at')
  assert.deepEqual([...new Set(sent.filter(isAllowed).map(({ toPort }) => toPort))].sort(), [...batches.keys()].map((number) => TARGET_PORT + number).concat(HELLO_PORT, HINT_PORT), 'every list was tried')
}

/** Three identities in directories of their own, by their public keys. */
async function placesByKey (directory: string): Promise<{ lowest: string, middle: string, highest: string }> {
  const made = await Promise.all(['one', 'two', 'three'].map(async (name) => {
    const place = join(directory, name)
    return { place, publicKey: (await openKeystore({ directory: place })).publicKey }
  }))
  const [lowest, middle, highest] = made.sort((one, other) => Buffer.compare(one.publicKey, other.publicKey)).map(({ place }) => place)
  assert.ok(lowest !== undefined && middle !== undefined && highest !== undefined)
  return { lowest, middle, highest }
}

async function somePeerId (): Promise<string> {
  return peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()
}

async function befriend (office: ControlClient, laptop: ControlClient): Promise<void> {
  const { address = '' } = await office.call('identity.show', {})
  await laptop.call('friend.add', { address, label: 'office' })
  const { did } = await waitFor('the friend request', async () => (await office.call('friend.requests', {})).requests[0], { deadlineMs: PATIENCE_MS })
  await office.call('friend.accept', { who: did, label: 'laptop' })
  await waitFor('the laptop to know that it was accepted', async () => (await laptop.call('friend.list', {})).friends.some(({ state }) => state === 'friend'), { deadlineMs: PATIENCE_MS })
}

/** Somebody at the office wants something of the friend: for sessions in use a better way is looked for. */
async function useSession (office: Daemon, control: ControlClient): Promise<void> {
  await waitFor('the session with the hostile friend', async () => (await office.status()).friends[0]?.presence === 'online', { deadlineMs: PATIENCE_MS })
  const pipe = await control.pipe('laptop/anything')
  pipe.on('error', () => { /* it ends with the session */ })
}
