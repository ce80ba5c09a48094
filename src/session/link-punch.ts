/** Links through holes: both ends connect at once, and TLS says who came. The controller asks; PROTOCOL.md "Punching". */
import type { Socket } from 'node:net'
import { abortable, CarrierError, errorMessage, LIMITS, sleep, startDeadline } from '../base/index.ts'
import type { Clock, HostAndPort, Logger, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { race } from '../node/index.ts'
import type { PunchPort } from '../node/index.ts'
import type { LinkNode, LinkOpener, SocketWay } from './link-opener.ts'
import { createLinkPunchBudget } from './link-punch-budget.ts'
import { createLinkPunchPorts } from './link-punch-ports.ts'
import type { LinkPunchPorts } from './link-punch-ports.ts'
import type { PunchAnswer } from './frames.ts'
import type { Link } from './link.ts'
import type { LiveSession } from './live-session.ts'

/** What punching links needs. */
export interface LinkPunchComponents {
  node: Pick<LinkNode, 'canPunch' | 'preparePunch'>
  opener: Pick<LinkOpener, 'secure' | 'makeReady'>
  clock: Clock
  log: Logger
  tasks: TaskOwner
  /** Takes a socket that may become a link of the session with `device`; owns it. True once the device has proven its key on it. */
  receive: (socket: Socket, device: Did, way: SocketWay) => Promise<boolean>
}

/** Both ends of a punch. */
export interface LinkPunch {
  /**
   * The controller's end. Resolves with a link whose other end has proven its key.
   *
   * @throws CarrierError ERR_NOT_AVAILABLE (a router makes it impossible, or the other side does not want to), ERR_PEER_OFFLINE (nothing came through), ERR_TIMEOUT
   */
  open: (session: LiveSession, signal: AbortSignal) => Promise<Link>
  /** The other end: answers, and tries for a while. */
  asked: (session: LiveSession, candidates: readonly HostAndPort[], answer: (answer: PunchAnswer) => void) => void
  /** A session with this friend is coming up: what either end of a punch needs can be made ready. Bounded whatever a friend does. */
  makeReady: (device: Did) => void
  /** What was made ready is of no use: another network. */
  clear: LinkPunchPorts['clear']
  /** The session has ended: what was answered in it ends too. */
  forget: (session: LiveSession) => void
}

const WAY: SocketWay = { kind: 'direct', path: 'punched', relayPeerId: undefined }
/** While the round trip of a link is not known yet. */
const LIKELY_RTT_MS = 80

/** Creates both. */
export function createLinkPunch (components: LinkPunchComponents): LinkPunch {
  const { node, opener, clock, log, tasks } = components
  // nobody is to be knocked at with our help for long, whichever end asks
  const answers = createLinkPunchBudget(clock, { totalCount: LIMITS.punchAnswerTotalCount, minGapMs: LIMITS.punchAnswerMs })
  const asks = createLinkPunchBudget(clock, { totalCount: Infinity, minGapMs: 0 })
  /** What is being answered; two rounds of one session may be. */
  const answering = new Set<{ session: LiveSession, end: AbortController }>()
  const ports = createLinkPunchPorts({ node, clock, tasks })

  /**
   * Two rounds: a lost packet at the wrong moment can leave the routers with a pair of ports that is of no use for seconds, so that
   * the second one, from other ports, begins before the first has failed.
   */
  async function open (session: LiveSession, signal: AbortSignal): Promise<Link> {
    const answered = Promise.withResolvers<undefined>()
    const hopeless = new AbortController()
    const missed = new AbortController()
    let failure: unknown
    const first = async (either: AbortSignal): Promise<Link> => {
      let isAnswered = false
      try {
        return await round(session, either, () => {
          isAnswered = true
          answered.resolve(undefined)
        })
      } catch (err) {
        failure = err
        // whoever cannot punch cannot from another port
        const next = isAnswered ? missed : hopeless
        next.abort(err)
        throw err
      }
    }
    const second = async (either: AbortSignal): Promise<Link> => {
      await abortable(answered.promise, either)
      const delayMs = Math.max(LIMITS.punchSecondMs, 3 * (session.links.sending?.rttMs ?? LIKELY_RTT_MS))
      await sleep(clock, delayMs, AbortSignal.any([either, missed.signal])).catch(() => { either.throwIfAborted() })
      return round(session, either)
    }
    try {
      return await race(clock, [first, second], { staggerMs: 0, signal: AbortSignal.any([signal, hopeless.signal]), discard: (late) => { late.abort(new CarrierError('ERR_CANCELLED', 'another connection was faster')) } })
    } catch (err) {
      // the second round may have been declined for no other reason than the first
      throw err instanceof AggregateError ? failure : err
    }
  }

  async function round (session: LiveSession, signal: AbortSignal, onAnswer?: () => void): Promise<Link> {
    // the end of a session must not be the way to another try
    if (!asks.take(session.peer.device)) throw new CarrierError('ERR_NOT_AVAILABLE', 'there were so many attempts with this friend within the last minute that no more are made')
    const port = await ports.take(session.peer.device, signal)
    try {
      if (port.mapping === 'dependent') throw new CarrierError('ERR_NOT_AVAILABLE', 'the router of this side gives every destination another port, so nobody can be told one')
      const theirs = await session.asks.askPunch(port.candidates, signal)
      if (theirs === 'hard') throw new CarrierError('ERR_NOT_AVAILABLE', 'the router of the other side gives every destination another port, so it can tell none')
      if (theirs === 'no') throw new CarrierError('ERR_NOT_AVAILABLE', 'the other side cannot punch now')
      onAnswer?.()
      return await firstSecure(port, theirs, session.peer.device, signal)
    } finally {
      port.close()
    }
  }

  /** The first connection at whose other end the device proves its key; all others are closed. */
  async function firstSecure (port: PunchPort, theirs: readonly HostAndPort[], device: Did, signal: AbortSignal): Promise<Link> {
    const found = new AbortController()
    const either = AbortSignal.any([signal, found.signal])
    let link: Link | undefined
    async function secure (socket: Socket): Promise<boolean> {
      try {
        const secured = await opener.secure(socket, device, WAY, either)
        if (link !== undefined) {
          secured.abort(new CarrierError('ERR_CANCELLED', 'another connection was faster'))
          return true
        }
        link = secured
        found.abort(new CarrierError('ERR_CANCELLED', 'another connection was faster'))
        return true
      } catch (err) {
        log.debug('what was punched is no link to the friend', { device, reason: errorMessage(err) })
        return false
      }
    }
    await port.connect(theirs, secure, either)
    if (link !== undefined) return link
    signal.throwIfAborted()
    throw new CarrierError('ERR_PEER_OFFLINE', 'no packet came through to the other side: a router or firewall in between drops them')
  }

  function endAnswers (session: LiveSession, reason: CarrierError): void {
    for (const one of answering) if (one.session === session) one.end.abort(reason)
  }

  async function answerAsk (session: LiveSession, candidates: readonly HostAndPort[], answer: (answer: PunchAnswer) => void, signal: AbortSignal): Promise<void> {
    using deadline = startDeadline(clock, LIMITS.punchTimeoutMs, 'the punch took too long', signal)
    const { device } = session.peer
    let port: PunchPort
    try {
      port = await ports.take(device, deadline.signal)
    } catch (err) {
      log.debug('a punch was declined', { device, reason: errorMessage(err) })
      answer('no')
      return
    }
    try {
      if (port.mapping === 'dependent') {
        answer('hard')
        return
      }
      answer(port.candidates)
      // so long the answer is on its way: what arrives before the other side has opened its hole is refused by its router
      await sleep(clock, (session.links.sending?.rttMs ?? LIKELY_RTT_MS) / 2, deadline.signal)
      await port.connect(candidates, async (socket) => {
        const isLink = await abortable(components.receive(socket, device, WAY), deadline.signal)
        if (isLink) endAnswers(session, new CarrierError('ERR_CANCELLED', 'another connection was faster'))
        return isLink
      }, deadline.signal)
    } finally {
      port.close()
    }
  }

  return {
    open,
    makeReady: (device) => {
      if (ports.makeReady(device)) opener.makeReady()
    },
    clear: ports.clear,
    forget: (session) => { endAnswers(session, new CarrierError('ERR_CLOSED', 'the session has ended')) },
    asked: (session, candidates, answer) => {
      const { device } = session.peer
      if (answering.size >= LIMITS.linkHandshakeCount || !node.canPunch() || tasks.signal.aborted || !answers.take(device)) {
        answer('no')
        return
      }
      const one = { session, end: new AbortController() }
      answering.add(one)
      tasks.run('answer a punch', async (signal) => {
        try {
          await answerAsk(session, candidates, answer, AbortSignal.any([signal, one.end.signal]))
        } catch (err) {
          log.debug('a punch of the other side ended', { device, reason: errorMessage(err) })
        } finally {
          answering.delete(one)
        }
      })
    }
  }
}
