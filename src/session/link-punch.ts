/** Links through holes: both ends connect at once, and TLS says who came. The controller asks; PROTOCOL.md "Punching". */
import type { Socket } from 'node:net'
import { CarrierError, errorMessage, LIMITS, sleep, startDeadline } from '../base/index.ts'
import type { Clock, HostAndPort, Logger, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { PunchPort } from '../node/index.ts'
import type { LinkNode, LinkOpener, SocketWay } from './link-opener.ts'
import type { PunchAnswer } from './frames.ts'
import type { Link } from './link.ts'
import type { LiveSession } from './live-session.ts'

/** What punching links needs. */
export interface LinkPunchComponents {
  node: Pick<LinkNode, 'canPunch' | 'preparePunch'>
  opener: Pick<LinkOpener, 'secure'>
  clock: Clock
  log: Logger
  tasks: TaskOwner
  /** Takes a socket that may become a link of the session with `device`; owns it. */
  receive: (socket: Socket, device: Did, way: SocketWay) => void
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
}

const WAY: SocketWay = { kind: 'direct', path: 'punched', relayPeerId: undefined }

/** Creates both. */
export function createLinkPunch (components: LinkPunchComponents): LinkPunch {
  const { node, opener, clock, log, tasks } = components
  /** When each friend was answered of late: nobody is to be knocked at with our help for long. */
  const answeredMs = new Map<Did, number[]>()
  let answeringCount = 0

  async function open (session: LiveSession, signal: AbortSignal): Promise<Link> {
    const port = await node.preparePunch(signal)
    try {
      if (port.mapping === 'dependent') throw new CarrierError('ERR_NOT_AVAILABLE', 'the router of this side gives every destination another port, so nobody can be told one')
      const theirs = await session.asks.askPunch(port.candidates, signal)
      if (theirs === 'hard') throw new CarrierError('ERR_NOT_AVAILABLE', 'the router of the other side gives every destination another port, so it can tell none')
      if (theirs === 'no') throw new CarrierError('ERR_NOT_AVAILABLE', 'the other side cannot punch now')
      return await firstSecure(port, { theirs, rttMs: session.links.sending?.rttMs ?? 0 }, session.peer.device, signal)
    } finally {
      port.close()
    }
  }

  /** The first connection at whose other end the device proves its key; all others are closed. */
  async function firstSecure (port: PunchPort, { theirs, rttMs }: { theirs: readonly HostAndPort[], rttMs: number }, device: Did, signal: AbortSignal): Promise<Link> {
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
    await port.connect(theirs, rttMs, secure, either)
    if (link !== undefined) return link
    signal.throwIfAborted()
    throw new CarrierError('ERR_PEER_OFFLINE', 'no packet came through to the other side: a router or firewall in between drops them')
  }

  async function answerAsk (session: LiveSession, candidates: readonly HostAndPort[], answer: (answer: PunchAnswer) => void, signal: AbortSignal): Promise<void> {
    using deadline = startDeadline(clock, LIMITS.punchTimeoutMs, 'the punch took too long', signal)
    let port: PunchPort
    try {
      port = await node.preparePunch(deadline.signal)
    } catch (err) {
      log.debug('a punch was declined', { device: session.peer.device, reason: errorMessage(err) })
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
      const rttMs = session.links.sending?.rttMs ?? 0
      await sleep(clock, rttMs / 2, deadline.signal)
      await port.connect(candidates, rttMs, (socket) => {
        components.receive(socket, session.peer.device, WAY)
        return true
      }, deadline.signal)
    } finally {
      port.close()
    }
  }

  return {
    open,
    asked: (session, candidates, answer) => {
      const { device } = session.peer
      const nowMs = clock.monotonicMs()
      const recent = (answeredMs.get(device) ?? []).filter((atMs) => nowMs - atMs < LIMITS.punchAnswerSpanMs)
      for (const [friend, times] of answeredMs) if (nowMs - (times.at(-1) ?? 0) >= LIMITS.punchAnswerSpanMs) answeredMs.delete(friend)
      let allCount = 0
      for (const times of answeredMs.values()) allCount += times.length
      const isTooOften = recent.length >= LIMITS.punchAnswerCount || allCount >= LIMITS.punchAnswerTotalCount || nowMs - (recent.at(-1) ?? -Infinity) < LIMITS.punchAnswerMs
      if (isTooOften || answeringCount >= LIMITS.linkHandshakeCount || !node.canPunch() || tasks.signal.aborted) {
        answer('no')
        return
      }
      answeredMs.set(device, [...recent, nowMs])
      answeringCount++
      tasks.run('answer a punch', async (signal) => {
        try {
          await answerAsk(session, candidates, answer, signal)
        } catch (err) {
          log.debug('a punch of the other side came to nothing', { device: session.peer.device, reason: errorMessage(err) })
        } finally {
          answeringCount--
        }
      })
    }
  }
}
