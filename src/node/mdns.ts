/** The sockets of the search for friends on the local network: one that hears queries, and one per question round and network. */
import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import { errorMessage, LIMITS, sleep } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import { MDNS_GROUP, MDNS_PORT, QUERY_BYTES } from './mdns-wire.ts'
import { createRateLimit } from './rate-limit.ts'

/** What the sockets need. */
export interface MdnsComponents {
  clock: Clock
  log: Logger
  /** Our IPv4 addresses in the networks in which friends are looked for. */
  hosts: () => string[]
  /** The answer to a query that came from `host`, if we have one. */
  answer: (query: Uint8Array, host: string) => Uint8Array | undefined
  /** MDNS_PORT; another one in tests. */
  port?: number
}

/** The sockets. */
export interface Mdns {
  /** Hears queries, as far as the machine allows. */
  start: () => Promise<void>
  /** Our addresses are others. */
  refresh: () => void
  /** Says a query in every network of ours and gives whatever is answered to `onAnswer`, for LIMITS.lanAnswerMs. @throws the signal's reason */
  ask: (query: Uint8Array, onAnswer: (answer: Uint8Array, host: string) => void, signal: AbortSignal) => Promise<void>
  stop: () => Promise<void>
}

/** Creates the sockets; none is opened before `start`. */
export function createMdns (components: MdnsComponents): Mdns {
  const { clock, log } = components
  const port = components.port ?? MDNS_PORT
  const heard = createRateLimit(clock, LIMITS.lanDatagramsPerSecondCount)
  let ear: Socket | undefined
  let joined: string[] = []

  /** Groups are joined network by network: the system's choice of one is as good as chance. */
  function refresh (): void {
    if (ear === undefined) return
    const hosts = components.hosts()
    for (const host of joined) {
      if (hosts.includes(host)) continue
      try {
        ear.dropMembership(MDNS_GROUP, host)
      } catch { /* it went with its address */ }
    }
    joined = hosts.filter((host) => joined.includes(host) || join(host))
  }

  function join (host: string): boolean {
    try {
      ear?.addMembership(MDNS_GROUP, host)
      return true
    } catch (err) {
      log.debug('friends on one network will not be heard', { host, reason: errorMessage(err) })
      return false
    }
  }

  function onQuery (query: Buffer, from: { address: string, port: number }): void {
    // what others ask, which is most of it, takes nobody's place
    if (query.length !== QUERY_BYTES || !heard.take('')) return
    const answer = components.answer(query, from.address)
    // to the asker alone; that it went cannot be known
    if (answer !== undefined) ear?.send(answer, from.port, from.address, () => { /* see above */ })
  }

  async function askFrom (host: string, query: Uint8Array, onAnswer: (answer: Uint8Array, host: string) => void, signal: AbortSignal): Promise<void> {
    const socket = createSocket('udp4')
    try {
      socket.bind({ port: 0, address: host })
      await once(socket, 'listening')
      socket.on('error', () => { /* the time decides */ })
      // counted by who knows which answers were asked for: with others anybody could use the count up
      socket.on('message', (answer, from) => { onAnswer(answer, from.address) })
      socket.setMulticastInterface(host)
      socket.setMulticastTTL(255)
      socket.send(query, port, MDNS_GROUP, () => { /* a network without multicast: nothing is answered */ })
      await sleep(clock, LIMITS.lanAnswerMs, signal)
    } catch (err) {
      signal.throwIfAborted()
      // the address has gone meanwhile; the other networks are asked all the same
      log.debug('friends on one network could not be asked for', { host, reason: errorMessage(err) })
    } finally {
      socket.close()
    }
  }

  return {
    refresh,
    start: async () => {
      const socket = createSocket({ type: 'udp4', reuseAddr: true })
      try {
        socket.bind({ port, address: '0.0.0.0' })
        await once(socket, 'listening')
      } catch (err) {
        socket.close()
        log.warn('this machine lets nobody else hear multicast DNS: friends on the local network do not find this node by themselves', { reason: errorMessage(err) })
        return
      }
      socket.on('error', (err) => { log.debug('multicast DNS', { reason: errorMessage(err) }) })
      socket.on('message', onQuery)
      ear = socket
      refresh()
    },
    ask: async (query, onAnswer, signal) => {
      await Promise.all(components.hosts().slice(0, LIMITS.lanNetworkCount).map(async (host) => askFrom(host, query, onAnswer, signal)))
    },
    stop: async () => {
      const closing = ear
      ear = undefined
      joined = []
      if (closing === undefined) return
      const closed = once(closing, 'close')
      closing.close()
      await closed
    }
  }
}
