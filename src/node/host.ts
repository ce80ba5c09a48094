/** libp2p, built and narrowed to what the other files of this folder use. */
import type { Connection, Libp2p, Listener, Transport } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CarrierError, errorMessage } from '../base/index.ts'
import { createLibp2pConfig } from './libp2p-config.ts'
import type { Internals, Libp2pConfigInit } from './libp2p-config.ts'

/** A libp2p node that is not started yet, and the few internals that its own API cannot reach. */
export interface Host {
  libp2p: Libp2p
  /** Connects to exactly this address, past libp2p's dial queue, which would go through addresses one after the other. */
  dialAddress: (address: Multiaddr, signal: AbortSignal) => Promise<Connection>
  /** A listener for circuits; the caller closes it. */
  createCircuitListener: () => Listener
  /** True when the relay behind `circuit` says that it holds no reservation of ours. @throws when it could not be asked */
  isReservationGone: (circuit: Multiaddr, signal: AbortSignal) => Promise<boolean>
  /** Multiaddrs of the open listening sockets. */
  listening: () => string[]
}

/** Builds the host without starting it. */
export async function createHost (init: Libp2pConfigInit): Promise<Host> {
  const libp2p = await createLibp2p(createLibp2pConfig(init))
  const internals: Internals = libp2p.services.internals

  async function dialAddress (address: Multiaddr, signal: AbortSignal): Promise<Connection> {
    return internals.transportManager.dial(address, { signal, upgrader: internals.upgrader })
  }

  function circuitTransport (): Transport {
    const transport = internals.transportManager.getTransports().find((one) => one.listenFilter([multiaddr('/p2p-circuit')]).length > 0)
    if (transport === undefined) throw new CarrierError('ERR_INTERNAL', 'libp2p has no circuit transport')
    return transport
  }

  return {
    libp2p,
    dialAddress,
    createCircuitListener: () => circuitTransport().createListener({ upgrader: internals.upgrader }),
    isReservationGone: async (circuit, signal) => {
      // A circuit to ourselves ends at "cannot dial self" when the relay joined it, so the whole way was tried.
      try {
        const connection = await dialAddress(circuit.encapsulate(`/p2p/${libp2p.peerId.toString()}`), signal)
        await connection.close()
        return false
      } catch (err) {
        if (signal.aborted) throw err
        return /NO_RESERVATION/.test(errorMessage(err))
      }
    },
    listening: () => internals.transportManager.getListeners().flatMap((listener) => listener.getAddrs()).map(String).filter((text) => !text.includes('/p2p-circuit'))
  }
}
