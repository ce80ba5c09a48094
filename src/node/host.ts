/** libp2p, built and narrowed to what the other files of this folder use. */
import type { Connection, Libp2p, Listener, Transport } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CarrierError } from '../base/index.ts'
import { createLibp2pConfig } from './libp2p-config.ts'
import type { Internals, Libp2pConfigInit } from './libp2p-config.ts'

/** A libp2p node that is not started yet, and the few internals that its own API cannot reach. */
export interface Host {
  libp2p: Libp2p
  /** Connects to exactly this address, past libp2p's dial queue, which would go through addresses one after the other. */
  dialAddress: (address: Multiaddr, signal: AbortSignal) => Promise<Connection>
  /** Asks the other end again what it speaks; libp2p does it once per connection, and an answer that is late then is never asked for again. */
  identify: (connection: Connection, signal: AbortSignal) => Promise<void>
  /** A listener for circuits; the caller closes it. */
  createCircuitListener: () => Listener
  /** A listener for TCP connections; the caller closes it. Not libp2p's own list of listeners: what is in there cannot be changed later. */
  createTcpListener: () => Listener
}

/** Builds the host without starting it. */
export async function createHost (init: Libp2pConfigInit): Promise<Host> {
  const libp2p = await createLibp2p(createLibp2pConfig(init))
  const internals: Internals = libp2p.services.internals

  async function dialAddress (address: Multiaddr, signal: AbortSignal): Promise<Connection> {
    // a circuit is asked for together with the protocol that asks: a relay of ours has said that it speaks it, and one that does not says so
    const options = { signal, upgrader: internals.upgrader, negotiateFully: false }
    return internals.transportManager.dial(address, options)
  }

  /** The transport that listens on addresses like this one. */
  function transportFor (address: string): Transport {
    const transport = internals.transportManager.getTransports().find((one) => one.listenFilter([multiaddr(address)]).length > 0)
    if (transport === undefined) throw new CarrierError('ERR_INTERNAL', `libp2p has no transport for ${address}`)
    return transport
  }

  return {
    libp2p,
    dialAddress,
    identify: async (connection, signal) => { await libp2p.services.identify.identify(connection, { signal }) },
    createCircuitListener: () => transportFor('/p2p-circuit').createListener({ upgrader: internals.upgrader }),
    createTcpListener: () => transportFor('/ip4/127.0.0.1/tcp/0').createListener({ upgrader: internals.upgrader })
  }
}
