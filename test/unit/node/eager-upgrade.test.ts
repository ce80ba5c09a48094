/** Noise and its choice in one flight: against ends that refuse, say something else, hold another key or answer byte by byte. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Connection, ConnectionEncrypter, MultiaddrConnection, StreamMuxerFactory, Upgrader } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { concatBytes, errorCode, errorMessage } from '../../../src/base/index.ts'
import type { Identity } from '../../../src/identity/index.ts'
import { eagerUpgrader } from '../../../src/node/eager-upgrade.ts'
import { encodeLine, MULTISTREAM_HEADER } from '../../../src/node/protocol-negotiation.ts'
import { createSecureChannel } from '../../../src/node/secure-channel.ts'
import { makeIdentity } from '../../support/node-pair.ts'
import { within } from '../../support/wait.ts'

const NOISE = '/noise'
const HEADER = encodeLine(MULTISTREAM_HEADER)
const CHOICE = concatBytes([HEADER, encodeLine(NOISE)])
const DEADLINE_MS = 20_000
const MUXER: StreamMuxerFactory = { protocol: '/yamux/1.0.0', createStreamMuxer: () => { throw new Error('not used') } }
const [ourselves, them] = [await makeIdentity(), await makeIdentity()]

test('the choice is answered in one piece with the second Noise message, or byte by byte: the upgrade goes on with the proven key', async () => {
  for (const isByteByByte of [false, true]) {
    const { dial, theirs, upgraded } = open()
    const dialled = dial()
    await within('the far end', DEADLINE_MS, Promise.all([dialled, answer(theirs, them, isByteByByte)]))
    const [options] = upgraded
    assert.equal(upgraded.length, 1)
    assert.equal(options?.skipEncryption, true)
    assert.equal(String(options.remotePeer), them.peerId.toString())
  }
})

test('"na", garbage, an early end and another key come to nothing: libp2p never takes the connection as encrypted', async () => {
  const other = await makeIdentity()
  const ends: Array<[RegExp, (theirs: MultiaddrConnection) => unknown]> = [
    [/could not be encrypted/, (theirs) => theirs.send(concatBytes([HEADER, encodeLine('na')]))],
    [/could not be encrypted/, (theirs) => theirs.send(new Uint8Array(70_000).fill(0x7f))],
    [/could not be encrypted/, (theirs) => theirs.send(concatBytes([CHOICE, new Uint8Array(70_000).fill(0xff)]))],
    [/could not be encrypted/, (theirs) => { theirs.abort(new Error('gone')) }],
    [/does not match expected/, (theirs) => { answer(theirs, other, false).catch(() => { /* the other end gives up */ }) }]
  ]
  for (const [reason, end] of ends) {
    const { dial, theirs, upgraded } = open()
    const dialled = dial()
    end(theirs)
    await assert.rejects(within('a failure', DEADLINE_MS, dialled), (err) => errorCode(err) === 'ERR_LINK_LOST' && reason.test(errorMessage(err)))
    assert.equal(upgraded.length, 0)
  }
})

test('an end that stays silent is left when the signal says so', async () => {
  const { dial, upgraded } = open()
  const controller = new AbortController()
  const dialled = dial(controller.signal)
  controller.abort(new Error('too late'))
  await assert.rejects(within('a failure', DEADLINE_MS, dialled), (err) => errorCode(err) === 'ERR_LINK_LOST')
  assert.equal(upgraded.length, 0)
})

type UpgradeOptions = Parameters<Upgrader['upgradeOutbound']>[1] & { skipEncryption?: boolean, remotePeer?: unknown }

function encrypterOf (identity: Identity): ConnectionEncrypter {
  const [{ log }] = multiaddrConnectionPair()
  const upgrader = { getStreamMuxers: () => new Map([[MUXER.protocol, MUXER]]) }
  return createSecureChannel().encrypter({ peerId: identity.peerId, privateKey: identity.privateKey, logger: { forComponent: () => log }, upgrader } as unknown as Parameters<ReturnType<typeof createSecureChannel>['encrypter']>[0])
}

function open (): { dial: (signal?: AbortSignal) => Promise<Connection>, theirs: MultiaddrConnection, upgraded: UpgradeOptions[] } {
  const [ours, theirs] = multiaddrConnectionPair({ outbound: { remoteAddr: multiaddr(`/ip4/192.0.2.7/tcp/4001/p2p/${them.peerId.toString()}`) } })
  const upgraded: UpgradeOptions[] = []
  const encrypter = encrypterOf(ourselves)
  const upgrader = eagerUpgrader({
    getConnectionEncrypters: () => new Map([[encrypter.protocol, encrypter]]),
    getStreamMuxers: () => new Map([[MUXER.protocol, MUXER]]),
    upgradeOutbound: async (_connection: MultiaddrConnection, options: UpgradeOptions) => {
      upgraded.push(options)
      return {} as Connection
    }
  } as unknown as Upgrader)
  // the transport does this: what could not be upgraded is closed
  const dial = async (signal = AbortSignal.timeout(DEADLINE_MS)): Promise<Connection> => upgrader.upgradeOutbound(ours, { signal })
  return { dial, theirs, upgraded }
}

/** The accepting side: its answer to the choice leaves with its first Noise message, or every byte alone. */
async function answer (theirs: MultiaddrConnection, identity: Identity, isByteByByte: boolean): Promise<void> {
  const send = theirs.send.bind(theirs)
  let held: Uint8Array = CHOICE
  theirs.send = (data) => {
    const bytes = concatBytes([held, data instanceof Uint8Array ? data : data.subarray()])
    held = new Uint8Array(0)
    if (!isByteByByte) return send(bytes)
    for (const byte of bytes) send(new Uint8Array([byte]))
    return true
  }
  let skip = CHOICE.length
  theirs.addEventListener('message', function cut (event) {
    event.stopImmediatePropagation()
    const bytes = event.data instanceof Uint8Array ? event.data : event.data.subarray()
    const rest = bytes.subarray(skip)
    skip -= bytes.length - rest.length
    if (skip > 0) return
    theirs.removeEventListener('message', cut)
    theirs.unshift(rest)
  })
  await encrypterOf(identity).secureInbound(theirs, { signal: AbortSignal.timeout(DEADLINE_MS) })
}
