/**
 * Friends know each other's relays: this device tells them its own at every contact and whenever they change, keeps what they tell,
 * and leaves a sealed copy in the DHT for those who are not connected.
 */
import type { Clock, Database, Logger, Metrics, Startable, Timer } from '../base/index.ts'
import { createTaskOwner, equalBytes, errorCode, errorMessage, LIMITS } from '../base/index.ts'
import type { AddressBook, Did, Identity } from '../identity/index.ts'
import { signRelayRecord } from '../node/index.ts'
import type { CarrierNode, DhtClient, RelayRecordBook, RelayStatus } from '../node/index.ts'
import { createRelayBook } from './relay-book.ts'
import { createRelayNewsHandler, RELAY_NEWS_PROTOCOL, takeRelayNews } from './relay-news.ts'
import type { RelayNews } from './relay-news.ts'
import { createRelayPublisher } from './relay-publisher.ts'
import type { OwnRelayRecord } from './relay-publisher.ts'
import { createRelayTeller } from './relay-teller.ts'
import type { Friends } from './types.ts'

/** What is needed to tell and to learn. */
export interface RelayRecordsComponents {
  /** The state database; its migrations include FRIENDS_MIGRATIONS. */
  database: Database
  identity: Identity
  addresses: Pick<AddressBook, 'list'>
  node: Pick<CarrierNode, 'handle' | 'openStream' | 'on' | 'peer' | 'relays'> & { dht: Pick<DhtClient, 'put'> }
  friends: Pick<Friends, 'on' | 'list' | 'levelOf'>
  clock: Clock
  /** In [0, 1); for jitter only. */
  random: () => number
  log: Logger
  metrics: Metrics
}

/** The relay records of this device and of its friends. */
export interface RelayRecords extends Startable {
  /** For the dialer. */
  book: RelayRecordBook
  /** What a friend request takes along; undefined while no relay holds a reservation. */
  ownNews: () => RelayNews | undefined
  /** Keeps what came with a friend request. What is wrong with it is logged: the request itself is as good. */
  takeNews: (device: Did, news: RelayNews) => void
  /** Addresses were handed out or revoked. */
  addressesChanged: () => void
}

/** Creates it and registers its protocol; create it before the node starts. `start` when the node runs, `stop` before it ends. */
export function createRelayRecords (components: RelayRecordsComponents): RelayRecords {
  const { identity, node, friends, clock, random, log, metrics } = components
  const book = createRelayBook(components.database)
  const tasks = createTaskOwner(log)
  const tellings = metrics.counter('carrier_friends_relay_news_total', 'Relay records told to friends and taken from them, by direction and result.', ['direction', 'result'])
  const publisher = createRelayPublisher({
    identity,
    addresses: components.addresses,
    dht: node.dht,
    ownSecret: book.ownSecret,
    clock,
    random,
    log,
    publications: metrics.counter('carrier_friends_relay_publications_total', 'Copies of the own relay record given to the DHT, by result.', ['result'])
  })
  const teller = createRelayTeller({ node, clock, log, tasks, isThere, news: presentNews, tellings })
  let own: (OwnRelayRecord & { madeAtMs: number }) | undefined
  let generation = 0
  let toldSecret = book.ownSecret()
  let isRunning = false
  let settleTimer: Timer | undefined
  /** When the first relay of the record was lost that is not back. */
  let lostSinceMs: number | undefined
  let renewTimer: Timer | undefined
  let publishing: AbortController | undefined
  /** PeerIds of the relays that held a reservation when the record was put into the DHT last. */
  let publishedAt: readonly string[] = []

  node.handle(RELAY_NEWS_PROTOCOL, createRelayNewsHandler({ clock, signal: tasks.signal, take }), { levels: ['friend'], maxStreamsPerPeer: 2 })

  const unsubscribers = [
    node.on('relay:state', () => { refreshSoon() }),
    node.on('peer:authenticated', ({ peer }) => { teller.tell(peer.device) }),
    node.on('peer:disconnected', ({ device }) => { teller.noteGone(device) }),
    friends.on('friend:added', ({ did }) => { for (const device of devicesOf(did)) teller.tell(device) }),
    friends.on('friend:removed', forgetSomebody),
    friends.on('friend:rejected', forgetSomebody)
  ]

  /** Somebody was removed. If it may have known our secret, that is another one now: the others are told. */
  function forgetSomebody (): void {
    book.prune()
    const secret = book.ownSecret()
    if (equalBytes(secret, toldSecret)) return
    toldSecret = secret
    generation++
    teller.forgetAll()
    tellAll()
    publish()
  }

  function take (device: Did, news: RelayNews): void {
    try {
      takeRelayNews(book, device, news, clock.now())
      tellings.add(1, { direction: 'in', result: 'ok' })
    } catch (err) {
      tellings.add(1, { direction: 'in', result: errorCode(err) })
      throw err
    }
  }

  function devicesOf (owner: Did): Did[] {
    return friends.list().find((friend) => friend.owner === owner)?.devices ?? []
  }

  /** Several relays come and go together: one record for all of it. */
  function refreshSoon (delayMs: number = LIMITS.relayRecordSettleMs): void {
    if (!isRunning || settleTimer !== undefined) return
    settleTimer = clock.setTimer(() => {
      settleTimer = undefined
      tasks.run('relay record', async () => { await refresh() })
    }, delayMs)
  }

  /** True for a relay that is only away for a moment: friends are told when it stays away. */
  function isMomentaryLoss (relays: readonly string[]): boolean {
    const isLoss = own !== undefined && relays.length < own.relays.length && relays.every((relay) => own?.relays.includes(relay))
    lostSinceMs = isLoss ? lostSinceMs ?? clock.monotonicMs() : undefined
    if (lostSinceMs === undefined) return false
    const leftMs = LIMITS.relayRecordLossMs - (clock.monotonicMs() - lostSinceMs)
    if (leftMs > 0) refreshSoon(leftMs)
    return leftMs > 0
  }

  async function refresh (): Promise<void> {
    const relays = chooseRelays(node.relays(), own?.relays ?? [])
    // without a relay there is nothing to say: the last word may come true again
    if (relays.length === 0 || isMomentaryLoss(relays)) return
    const isSame = own !== undefined && String(own.relays) === String(relays)
    if (own === undefined || !isSame || clock.now() - own.madeAtMs >= LIMITS.relayRecordRenewMs / 2) {
      const seq = book.nextSeq(clock.now())
      const expiresAtMs = Math.floor(clock.now()) + LIMITS.relayRecordTtlMs
      own = { bytes: await signRelayRecord(identity, { seq, expiresAtMs, relays }), seq, expiresAtMs, relays, madeAtMs: clock.now() }
      log.debug('our relay record was made anew', { seq, relays: relays.length })
      tellAll()
      publish()
    } else if (reservedRelays().some((peerId) => !publishedAt.includes(peerId))) {
      // a relay that was away may have lost it
      publish()
    } else {
      publishedAt = reservedRelays()
    }
  }

  function reservedRelays (): string[] {
    return node.relays().filter((relay) => relay.state === 'reserved').map((relay) => relay.peerId)
  }

  function publish (): void {
    const record = own
    if (!isRunning || record === undefined) return
    publishing?.abort()
    const turn = new AbortController()
    publishing = turn
    publishedAt = reservedRelays()
    tasks.run('publish relay record', async (signal) => {
      try {
        await publisher.publish(record, AbortSignal.any([signal, turn.signal]))
      } catch (err) {
        if (!turn.signal.aborted) throw err
      }
    })
  }

  function renewLater (): void {
    renewTimer = clock.setTimer(() => {
      renewLater()
      book.prune()
      refreshSoon()
    }, LIMITS.relayRecordRenewMs * (0.75 + random() * 0.5))
  }

  function tellAll (): void {
    for (const friend of friends.list()) for (const device of friend.devices) teller.tell(device)
  }

  function isThere (device: Did): boolean {
    return isRunning && friends.levelOf(device) === 'friend' && node.peer(device) !== undefined
  }

  function ownNews (): RelayNews | undefined {
    return own === undefined ? undefined : { record: own.bytes, lookUpSecret: book.ownSecret() }
  }

  function presentNews (): { news: RelayNews, version: string } | undefined {
    const news = ownNews()
    return news === undefined || own === undefined ? undefined : { news, version: `${own.seq} ${generation}` }
  }

  return {
    book,
    ownNews,
    takeNews: (device, news) => {
      try {
        take(device, news)
      } catch (err) {
        log.debug('what a friend request said about relays was refused', { device, reason: errorMessage(err) })
      }
    },
    addressesChanged: publish,
    start: async () => {
      isRunning = true
      book.prune()
      refreshSoon()
      renewLater()
    },
    stop: async () => {
      isRunning = false
      for (const unsubscribe of unsubscribers) unsubscribe()
      settleTimer?.cancel()
      renewTimer?.cancel()
      await tasks.stop()
    }
  }
}

/** The relays that hold a reservation; those of the last record stay as long as they do, then the quickest. Sorted, so that the order says nothing. Pure. */
export function chooseRelays (statuses: readonly RelayStatus[], before: readonly string[]): string[] {
  const reserved = statuses.filter((status) => status.state === 'reserved').sort((a, b) => (a.rttMs ?? Infinity) - (b.rttMs ?? Infinity)).map((status) => status.address)
  const kept = before.filter((address) => reserved.includes(address))
  return [...new Set([...kept, ...reserved])].slice(0, LIMITS.relayRecordRelayCount).sort()
}
