/** Carrier nodes for loopback tests: identities without files, levels that a test may change at any time. */
import { randomBytes } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { createMetrics, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Clock, Logger, Metrics } from '../../src/base/index.ts'
import { didFromPeerId } from '../../src/identity/index.ts'
import type { Did, Identity } from '../../src/identity/index.ts'
import { createNode } from '../../src/node/index.ts'
import type { AddressStore, Interfaces, Node, NodeInit, PeerLevel, RelayRecordBook } from '../../src/node/index.ts'
import { PATIENCE_MS, waitFor } from './wait.ts'

/** A node and what a test wants to know of it. */
export interface TestNode {
  node: Node
  identity: Identity
  did: Did
  /** How this node knows others; strangers by default. */
  levels: Map<Did, PeerLevel>
  /** PeerIds given to the audit hook. */
  strangers: string[]
  metrics: Metrics
}

/** A fresh identity in memory. */
export async function makeIdentity (): Promise<Identity> {
  return identityOf(await generateKeyPair('Ed25519'))
}

/** The identity of a key, with an instance id of its own: a second one of the same key is a clone. */
export function identityOf (privateKey: Identity['privateKey']): Identity {
  const peerId = peerIdFromPrivateKey(privateKey)
  return {
    did: didFromPeerId(peerId),
    peerId,
    publicKey: privateKey.publicKey.raw,
    privateKey,
    nospamSecret: new Uint8Array(32),
    instanceId: new Uint8Array(randomBytes(16)),
    sign: async (message) => privateKey.sign(message)
  }
}

/** Builds a node that is not started. */
export async function makeNode (init: Partial<NodeInit> = {}, options: { identity?: Identity, log?: Logger, addressStore?: AddressStore, relayRecords?: RelayRecordBook, clock?: Clock, interfaces?: () => Interfaces } = {}): Promise<TestNode> {
  const identity = options.identity ?? await makeIdentity()
  const levels = new Map<Did, PeerLevel>()
  const strangers: string[] = []
  const metrics = createMetrics()
  const node = createNode({
    identity,
    clock: options.clock ?? systemClock,
    log: options.log ?? silentLogger,
    metrics,
    levelOf: (device) => levels.get(device) ?? 'stranger',
    ownerOf: (device) => device,
    onStranger: (peerId) => { strangers.push(peerId) },
    ...(options.relayRecords === undefined ? {} : { relayRecords: options.relayRecords }),
    ...(options.addressStore === undefined ? {} : { addressStore: options.addressStore }),
    ...(options.interfaces === undefined ? {} : { interfaces: options.interfaces })
  }, { relays: [], listen: 'none', port: 0, ...init })
  return { node, identity, did: identity.did, levels, strangers, metrics }
}

/** Makes nodes friends of each other. */
export function befriend (...nodes: TestNode[]): void {
  for (const one of nodes) for (const other of nodes) if (one !== other) one.levels.set(other.did, 'friend')
}

/** Waits until every relay of the node holds a reservation. */
export async function reserved (test: TestNode, deadlineMs = PATIENCE_MS): Promise<void> {
  await waitFor('reservations', () => test.node.relays().every((relay) => relay.state === 'reserved'), { deadlineMs, intervalMs: 20 })
}
