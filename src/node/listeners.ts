/** The listening sockets of libp2p, kept on the addresses that are wanted: one port on all of them. */
import type { Listener } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { CarrierError, errorMessage } from '../base/index.ts'
import type { Logger } from '../base/index.ts'
import { tcpMultiaddr } from './listen-addresses.ts'

/** What the listeners need. */
export interface ListenersComponents {
  log: Logger
  /** A fresh TCP listener of libp2p that does not listen yet. */
  createListener: () => Listener
}

/** The listeners. Calls of `set` and `close` run one after the other. */
export interface Listeners {
  /**
   * Listens on these hosts and no others. The port of what listens already is kept; without any, `port` is taken (0 picks one).
   * Sockets of hosts that are gone are closed, with the connections that came in there.
   *
   * @throws CarrierError ERR_NOT_AVAILABLE when some host could not be listened on: the others are; the sentence says which and why
   */
  set: (hosts: readonly string[], port: number) => Promise<void>
  /** Multiaddrs of the open sockets. */
  listening: () => string[]
  /** The port; undefined while nothing listens. */
  port: () => number | undefined
  /** Closes all for good. */
  close: () => Promise<void>
}

/** Creates listeners that listen on nothing yet. */
export function createListeners ({ log, createListener }: ListenersComponents): Listeners {
  const open = new Map<string, { listener: Listener, port: number }>()
  let isClosed = false
  let last: Promise<unknown> = Promise.resolve()

  /** One change at a time: two that overlap would listen twice. */
  async function inTurn (work: () => Promise<void>): Promise<void> {
    const turn = last.then(work)
    last = turn.catch(() => { /* its caller hears of it */ })
    return turn
  }

  async function listen (host: string, port: number): Promise<void> {
    const listener = createListener()
    await listener.listen(multiaddr(tcpMultiaddr(host, port)))
    const bound = Number(listener.getAddrs()[0]?.getComponents().find((part) => part.name === 'tcp')?.value ?? port)
    open.set(host, { listener, port: bound })
    listener.addEventListener('close', () => { if (open.get(host)?.listener === listener) open.delete(host) })
  }

  function portNow (): number | undefined {
    return open.values().next().value?.port
  }

  return {
    port: portNow,
    listening: () => [...open].map(([host, { port }]) => tcpMultiaddr(host, port)),
    set: async (hosts, port) => {
      await inTurn(async () => {
        if (isClosed) return
        const wanted = portNow() ?? port
        for (const [host, { listener }] of [...open]) {
          if (hosts.includes(host)) continue
          open.delete(host)
          await listener.close()
        }
        const failures: Array<{ host: string, err: unknown }> = []
        for (const host of hosts) {
          if (open.has(host)) continue
          try {
            await listen(host, portNow() ?? wanted)
          } catch (err) {
            failures.push({ host, err })
          }
        }
        const real = failures.filter(({ host, err }) => !(isWithoutIpv6(host, err) && open.size > 0))
        for (const { host, err } of failures) log.warn('an address of this machine cannot be listened on', { host, reason: errorMessage(err) })
        const [first] = real
        if (first !== undefined) throw new CarrierError('ERR_NOT_AVAILABLE', `cannot listen on ${real.map(({ host }) => host).join(', ')}: ${errorMessage(first.err)}`, { cause: first.err })
      })
    },
    close: async () => {
      await inTurn(async () => {
        isClosed = true
        const closing = [...open.values()]
        open.clear()
        await Promise.all(closing.map(async ({ listener }) => listener.close()))
      })
    }
  }
}

/** A machine without IPv6 still listens on IPv4. */
function isWithoutIpv6 (host: string, err: unknown): boolean {
  return host === '::' && /EAFNOSUPPORT|EADDRNOTAVAIL/.test(errorMessage(err))
}
