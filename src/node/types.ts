/** The door types of node/: authenticated peers and streams on which other parts build. */
import type { Socket } from 'node:net'
import type { HostAndPort, Startable } from '../base/index.ts'
import type { Did } from '../identity/index.ts'

/** How well a remote device is known to the owner of this node; decided by the injected `admit`. */
export type PeerLevel = 'friend' | 'pending' | 'stranger' | 'blocked'

/** How bytes travel to a peer. */
export type Path = 'lan' | 'direct' | 'punched' | 'relayed' | 'spliced'

/** A pair of byte iterables: the only shape in which it-pipe joins things. */
export interface ByteDuplex {
  source: AsyncGenerator<Uint8Array>
  sink: (source: AsyncIterable<Uint8Array>) => Promise<void>
}

/**
 * A libp2p stream to an authenticated peer, with back-pressure in both directions.
 * `source` throws ERR_LINK_LOST unless the remote end really closed its write side; `sink` ends with a half-close (FIN).
 */
export interface PeerStream extends ByteDuplex {
  /** Hard end: the remote sees a reset. Idempotent. */
  abort: (err: Error) => void
  /** Resolves when the stream is gone in both directions, however it ended. */
  closed: Promise<void>
}

/** A remote device that proved its key on this very connection and passed /carrier/auth/1.0.0. */
export interface Peer {
  device: Did
  /** Owner of the device; equal to `device` until it proves another (credential sets are empty in this release). */
  owner: Did
  level: PeerLevel
  /** The remote process instance (16 bytes); undefined for strangers, to whom nothing is presented. */
  instanceId: Uint8Array | undefined
  path: Path
  /** DID-independent PeerId text of the relay in between, when relayed. */
  relayPeerId: string | undefined
}

/** Handles one inbound stream; when the promise settles the stream is closed (or aborted on rejection). */
export type StreamHandler = (stream: PeerStream, peer: Peer) => Promise<void>

/** The called end of splices. */
export interface SpliceHandler {
  /** Asked before anything is allocated; friends only come so far. */
  admits: (device: Did, relayPeerId: string) => boolean
  /** Owns the socket: paused, past its ticket, half-open ends allowed. Who is at its other end is still to be proven. */
  onSocket: (socket: Socket, device: Did, relayPeerId: string) => void
}

/** Takes a socket that came to the link port with a ticket of `device`; owns it. Who is at its other end is still to be proven. */
export type LinkSocketHandler = (socket: Socket, device: Did, path: 'lan' | 'direct') => void

/** How a router maps one local port for different destinations. `unknown`: seen from one place only, with another port than the local one. */
export type NatMapping = 'independent' | 'dependent' | 'unknown'

/** Owns the socket. True: it is taken, and its address needs no further attempt. */
export type OnPunched = (socket: Socket) => boolean | Promise<boolean>

/** A local port that is ready to be punched through; its owner closes it. */
export interface PunchPort {
  /** What to tell the friend: at most LIMITS.punchCandidateCount. */
  readonly candidates: readonly HostAndPort[]
  readonly mapping: NatMapping
  /** Where relays saw the port. */
  readonly observed: readonly HostAndPort[]
  /**
   * Tries the friend's candidates, LIMITS.punchSynCount times each, until the signal fires; every socket that is connected goes to
   * `onSocket`, which owns it. Resolves when no more will come.
   */
  connect: (offered: readonly HostAndPort[], onSocket: OnPunched, signal: AbortSignal) => Promise<void>
  /** Ends what is still under way. Idempotent. */
  close: () => void
}

/** State of one configured relay, as `carrier status` shows it. */
export interface RelayStatus {
  peerId: string
  /** The multiaddr as configured; of several that of the last connection. */
  address: string
  /** `standby`: it answers, and better ones hold our reservations. */
  state: 'connecting' | 'reserved' | 'standby' | 'unreachable' | 'refused'
  /** Smoothed round trip, milliseconds. */
  rttMs: number | undefined
  /** How full it says it is, 0 to 1000; undefined for relays that do not tell. */
  loadPermille: number | undefined
  /** It is one of the LIMITS.relayReservedCount best, on which a reservation is kept. */
  isChosen: boolean
  /** Why it is not reserved, will not be for long, or forwards nothing for us now, in plain words. */
  reason: string | undefined
}

/** `addresses`: our addresses are others than before. `woke`: the machine, or only this process, stood still for long. */
export interface NetworkChange { kind: 'addresses' | 'woke' }

/** How a stream is opened. */
export interface OpenStreamOptions {
  signal?: AbortSignal
  /** PeerIds of relays over which it must not go: a connection that avoids them is used, or made. */
  notVia?: readonly string[]
  /** A new connection's first words need not wait for the answer to the protocol: a refusal then shows on the stream, as ERR_NOT_AVAILABLE. */
  isEager?: boolean
}

/** Events of a node. */
export interface NodeEvents {
  /** A relay changed state. */
  'relay:state': RelayStatus
  /** A connection passed authentication. */
  'peer:authenticated': { peer: Peer, direction: 'inbound' | 'outbound' }
  /** The last connection to a device is gone. */
  'peer:disconnected': { device: Did }
  /** This machine came to another network (`addresses`) or woke from sleep (`woke`): everything open is looked after now. */
  'node:network-changed': NetworkChange
  /** Two live processes present the key of this device; hex instance ids, the older connection first. */
  'node:duplicate-identity': { device: Did, instanceIds: [string, string] }
}

/** The network host of one device. */
export interface CarrierNode extends Startable {
  readonly device: Did
  on: <Name extends keyof NodeEvents & string>(name: Name, listener: (payload: NodeEvents[Name]) => void) => () => void
  /**
   * Registers a protocol behind authentication. Peers whose level is not in `levels` get a reset: the same for every
   * protocol and whether it exists or not. Call before `start`.
   */
  handle: (protocol: string, handler: StreamHandler, options: { levels: readonly PeerLevel[], maxStreamsPerPeer: number }) => void
  /**
   * Opens a stream to a device over an existing or new authenticated connection.
   *
   * @throws CarrierError ERR_PEER_OFFLINE when no path works, ERR_NO_RELAY when there is none to try, ERR_TIMEOUT,
   *   ERR_NOT_AVAILABLE when the remote end refuses the protocol
   */
  openStream: (device: Did, protocol: string, options?: OpenStreamOptions) => Promise<{ stream: PeerStream, peer: Peer }>
  /** Round trip of one libp2p ping over the present path, milliseconds. @throws as openStream */
  ping: (device: Did, options?: { signal?: AbortSignal }) => Promise<{ rttMs: number, path: Path, relayPeerId: string | undefined }>
  /** Authenticated live connection to the device, if any. */
  peer: (device: Did) => Peer | undefined
  /** True while some relay holds a reservation or a listener exists. */
  isReachable: () => boolean
  relays: () => RelayStatus[]
  /** The relay stops soon, or does not forward: what runs over it should move. A look-up. */
  isLeavingRelay: (relayPeerId: string) => boolean
  /** Some other relay could carry what this one carries. A look-up. */
  canAvoidRelay: (relayPeerId: string) => boolean
  /** Addresses on which the node listens, as multiaddrs without relays. Empty for `listen = none`. */
  listenAddresses: () => string[]
  /**
   * Asks the relay for a splice to `device` and connects our leg. The socket is past its ticket and paused; bytes flow when
   * the other leg is there, and an end of the socket before that means that it never came.
   *
   * @throws CarrierError ERR_NOT_AVAILABLE (relay has no splices, device not there or refused), ERR_LIMIT (try again later),
   *   ERR_TIMEOUT, ERR_PEER_OFFLINE (the splice port cannot be reached), ERR_PROTOCOL
   */
  openSplice: (device: Did, relayPeerId: string, options?: { signal?: AbortSignal }) => Promise<Socket>
  /** The called end. One handler; call before `start`. Without it every offer is refused. */
  handleSplices: (handler: SpliceHandler) => void
  /** True when the relay offers splices and we are connected to it. A look-up. */
  canSplice: (relayPeerId: string) => boolean
  /** A one-use ticket (32 bytes, LIMITS.linkTicketMs) with which `device` may connect to our link port; undefined when we do not listen. */
  issueLinkTicket: (device: Did) => { port: number, ticket: Uint8Array } | undefined
  /**
   * Connects to the link port of a device, at the IP address of an open direct connection that we dialled to it, never at an
   * address that the friend names. The socket is as that of `openSplice`.
   *
   * @throws CarrierError ERR_NOT_AVAILABLE (no such connection), ERR_PEER_OFFLINE (the port cannot be reached), ERR_TIMEOUT
   */
  dialLink: (device: Did, link: { port: number, ticket: Uint8Array }, options?: { signal?: AbortSignal }) => Promise<{ socket: Socket, path: 'lan' | 'direct' }>
  /** Where sockets of our link port go. One handler; call before `start`. Without it no ticket is issued. */
  handleLinkSockets: (handler: LinkSocketHandler) => void
  /** True when an open direct connection to the device was dialled by us. A look-up. */
  canDialLink: (device: Did) => boolean
  /** True when some relay can tell where we are seen. A look-up. */
  canPunch: () => boolean
  /**
   * A fresh local port to punch through, and under which addresses it is seen. The caller closes it.
   *
   * @throws CarrierError ERR_NOT_AVAILABLE when no relay told where we are seen, or the signal's reason
   */
  preparePunch: (signal: AbortSignal) => Promise<PunchPort>
  /** Ends all connections to a device at once (block, remove, revoke). */
  disconnect: (device: Did) => Promise<void>
}
