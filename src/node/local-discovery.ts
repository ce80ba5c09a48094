/**
 * Finds friends on the local network, and is found by them; nobody else learns more than that something asked. Whom we want is
 * asked for with a tag that only that friend recognises, and only that friend answers, sealed. What is found is an address to
 * dial: the friend's key is proven there.
 */
import { randomBytes } from 'node:crypto'
import { backoffMs, createTaskOwner, LIMITS, sleep } from '../base/index.ts'
import type { Clock, CounterMetric, HostAndPort, Logger, TaskOwner } from '../base/index.ts'
import type { Did, Identity } from '../identity/index.ts'
import type { Interfaces } from './listen-addresses.ts'
import { tcpMultiaddr } from './listen-addresses.ts'
import type { Mdns } from './mdns.ts'
import { hourOf, lanSecret, lanTag, openAnswer, sealAnswer, TAG_BYTES } from './mdns-secret.ts'
import { decodeAnswer, decodeQuery, encodeAnswer, encodeQuery, QUERY_TAGS } from './mdns-wire.ts'
import { isInOwnSubnet } from './own-network.ts'

/** What the discovery needs. */
export interface LocalDiscoveryComponents {
  clock: Clock
  log: Logger
  random: () => number
  identity: Pick<Identity, 'did' | 'privateKey' | 'publicKey'>
  /** Friends' devices, the most important first. */
  friends: () => Did[]
  /** Has a direct connection already, so that it need not be looked for. */
  isNear: (device: Did) => boolean
  interfaces: () => Interfaces
  /** Our addresses in local networks and the port at which we listen, the best first. */
  addresses: () => HostAndPort[]
  createMdns: (answer: (query: Uint8Array, host: string) => Uint8Array | undefined) => Mdns
  /** A friend listens here, it says. */
  onFound: (device: Did) => void
  /** Counts what came of queries and answers. */
  results: CounterMetric
}

/** The discovery. */
export interface LocalDiscovery {
  start: () => Promise<void>
  /** Another network: what was found is forgotten, and friends are asked for at once. */
  networkChanged: () => void
  stop: () => Promise<void>
  /** Multiaddrs at which a friend was found lately. */
  recall: (device: Did) => string[]
}

/** Creates the discovery; nothing is said or heard before `start`. */
export function createLocalDiscovery (components: LocalDiscoveryComponents): LocalDiscovery {
  const { clock, identity, random } = components
  const secrets = new Map<Did, Uint8Array>()
  const found = new Map<Did, { addresses: string[], untilMs: number }>()
  /** Tags that friends would ask for us with, hexadecimal; and for which hour and friends they were made. */
  let recognised = new Map<string, Did>()
  let recognisedFor = ''
  let recognisedMs = -Infinity
  const mdns = components.createMdns(answer)
  let tasks: TaskOwner | undefined
  let wake = new AbortController()
  let roundCount = 0
  let quietCount = 0

  function known (): Did[] {
    return components.friends().slice(0, LIMITS.lanFriendCount)
  }

  function secretOf (device: Did): Uint8Array {
    const secret = secrets.get(device) ?? lanSecret(identity, device)
    secrets.delete(device)
    secrets.set(device, secret)
    const oldest = secrets.keys().next()
    if (secrets.size > LIMITS.lanFriendCount && oldest.done !== true) secrets.delete(oldest.value)
    return secret
  }

  /** Clocks differ: the hour before and the one after count too. */
  function recognise (): Map<string, Did> {
    const nowMs = clock.monotonicMs()
    const hour = hourOf(clock.now())
    if (nowMs - recognisedMs < LIMITS.lanTagsMs && recognisedFor.startsWith(`${hour} `)) return recognised
    recognisedMs = nowMs
    const friends = known()
    const wanted = `${hour} ${friends.join(' ')}`
    if (wanted === recognisedFor) return recognised
    recognisedFor = wanted
    recognised = new Map(friends.flatMap((device) => [-1, 0, 1].map((offset) => [toHexTag(lanTag(secretOf(device), device, hour + offset)), device] as const)))
    return recognised
  }

  function answer (query: Uint8Array, host: string): Uint8Array | undefined {
    const decoded = decodeQuery(query)
    if (decoded === undefined || !isLocal(host)) return undefined
    const tags = recognise()
    const tag = decoded.tags.find((one) => tags.has(one))
    const device = tag === undefined ? undefined : tags.get(tag)
    const addresses = components.addresses()
    components.results.add(1, { result: device === undefined ? 'foreign' : 'asked' })
    if (tag === undefined || device === undefined || addresses.length === 0) return undefined
    const bytes = Buffer.from(tag, 'hex')
    return encodeAnswer(decoded.id, bytes, sealAnswer(secretOf(device), bytes, addresses, new Uint8Array(randomBytes(24))))
  }

  function isLocal (host: string): boolean {
    return isInOwnSubnet(host, components.interfaces())
  }

  /** Friends that are asked for in this round: when they are too many for one, others than in the last. */
  function wantedNow (): Did[] {
    const wanted = known().filter((device) => !components.isNear(device))
    if (wanted.length <= QUERY_TAGS) return wanted
    const from = (roundCount * QUERY_TAGS) % wanted.length
    return [...wanted.slice(from), ...wanted.slice(0, from)].slice(0, QUERY_TAGS)
  }

  async function round (signal: AbortSignal): Promise<void> {
    const wanted = wantedNow()
    roundCount++
    if (wanted.length === 0) return
    const hour = hourOf(clock.now())
    const asked = new Map(wanted.map((device) => [toHexTag(lanTag(secretOf(device), identity.did, hour)), { device, answerCount: 0, addresses: [] as string[] }]))
    const tags = [...asked.keys()].map((tag) => Buffer.from(tag, 'hex'))
    // however many friends are missed, a query looks the same
    while (tags.length < QUERY_TAGS) tags.push(randomBytes(TAG_BYTES))
    tags.sort((one, other) => Buffer.compare(one, other))
    const id = randomBytes(2).readUInt16BE()
    await mdns.ask(encodeQuery(id, tags), (bytes, host) => {
      const decoded = decodeAnswer(bytes)
      const question = decoded?.id === id ? asked.get(decoded.tag) : undefined
      if (decoded === undefined || question === undefined || !isLocal(host) || question.answerCount >= LIMITS.lanAnswerCount) return
      question.answerCount++
      const { device } = question
      const addresses = openAnswer(secretOf(device), Buffer.from(decoded.tag, 'hex'), decoded.sealed)
      components.results.add(1, { result: addresses === undefined ? 'forged' : 'found' })
      if (addresses === undefined || addresses.length === 0) return
      // somebody may repeat an old answer of the friend's before the friend speaks: all that are true count
      const told = [...new Set([...addresses.map(({ host: at, port }) => tcpMultiaddr(at, port)), ...question.addresses])].slice(0, LIMITS.rememberedAddressCount)
      if (told.every((address) => question.addresses.includes(address))) return
      question.addresses = told
      found.delete(device)
      found.set(device, { addresses: told, untilMs: clock.monotonicMs() + LIMITS.lanFoundMs })
      const oldest = found.keys().next()
      if (found.size > LIMITS.lanFriendCount && oldest.done !== true) found.delete(oldest.value)
      components.onFound(device)
    }, signal)
  }

  return {
    recall: (device) => {
      const entry = found.get(device)
      if (entry === undefined || entry.untilMs > clock.monotonicMs()) return entry?.addresses ?? []
      found.delete(device)
      return []
    },
    start: async () => {
      await mdns.start()
      tasks = createTaskOwner(components.log)
      tasks.run('look for friends on the local network', async (signal) => {
        for (;;) {
          const own = wake
          await round(signal)
          // soon again at first, because wireless networks lose multicast; then rarely
          const waitMs = backoffMs({ firstMs: LIMITS.lanAskFirstMs, maxMs: LIMITS.lanAskMaxMs, factor: 3 }, quietCount++, random)
          await sleep(clock, waitMs, AbortSignal.any([signal, own.signal])).catch(() => { /* woken, or stopped: see below */ })
          signal.throwIfAborted()
        }
      })
    },
    networkChanged: () => {
      found.clear()
      quietCount = 0
      mdns.refresh()
      wake.abort()
      wake = new AbortController()
    },
    stop: async () => {
      await tasks?.stop()
      tasks = undefined
      await mdns.stop()
      found.clear()
      quietCount = 0
    }
  }
}

function toHexTag (tag: Uint8Array): string {
  return Buffer.from(tag).toString('hex')
}
