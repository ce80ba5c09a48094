/** Both ends of auth in a session, over wires that carry what the test lets them carry. */
import type { CarrierError } from '../../../src/base/index.ts'
import { NO_CREDENTIALS } from '../../../src/identity/index.ts'
import type { Credentials, Identity } from '../../../src/identity/index.ts'
import { createSessionProver } from '../../../src/node/index.ts'
import type { PeerLevel } from '../../../src/node/index.ts'
import type { LinkFrame } from '../../../src/session/frames.ts'
import { SessionAuth } from '../../../src/session/session-auth.ts'
import type { AuthLink } from '../../../src/session/session-auth.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { makeIdentity } from '../../support/node-pair.ts'

/** A piece of an auth message. */
export interface Piece { isLast: boolean, body: Uint8Array }

/** One end of a link: what it sends waits in `wire`. */
export class WireEnd implements AuthLink {
  epoch: number
  isGone = false
  wire: Piece[] = []
  /** One for each ping, until it is answered. */
  pings: Array<PromiseWithResolvers<undefined>> = []
  constructor (epoch: number) { this.epoch = epoch }
  send (frame: LinkFrame): void { if (frame.type === 'auth') this.wire.push({ isLast: frame.isLast, body: new Uint8Array(frame.body) }) }
  checks: number[] = []
  check (patienceMs: number): void { this.checks.push(patienceMs) }
  async ping (): Promise<undefined> {
    const ping = Promise.withResolvers<undefined>()
    this.pings.push(ping)
    return ping.promise
  }
}

/** One end of the session. */
export interface AuthEnd { identity: Identity, auth: SessionAuth, provenCount: number, failure: CarrierError | undefined, credentials: Credentials, level: PeerLevel }

/** Both ends; the first is the controller. Its pieces pass through `onPiece` on their way, which may change them. */
export interface AuthPair {
  ends: [AuthEnd, AuthEnd]
  /** A further link; nobody uses it yet. */
  link: (epoch: number) => [WireEnd, WireEnd]
  /** Both ends use it, the end that does not begin first. */
  use: (link: [WireEnd, WireEnd]) => void
  /** Carries until nothing moves any more. */
  settle: () => Promise<void>
  /** Every piece that arrived, by the end that sent it. */
  carried: Array<{ from: 0 | 1, piece: Piece }>
  onPiece: (from: 0 | 1, piece: Piece) => Piece | undefined
  end: () => void
}

export async function createAuthPair (clock: FakeClock, init: { sessionId?: Uint8Array, identities?: [Identity, Identity] } = {}): Promise<AuthPair> {
  const identities = init.identities ?? [await makeIdentity(), await makeIdentity()]
  const sessionId = init.sessionId ?? new Uint8Array(16).fill(9)
  const links: Array<[WireEnd, WireEnd]> = []
  const build = (index: 0 | 1): AuthEnd => {
    const end: Omit<AuthEnd, 'auth'> & { auth?: SessionAuth } = { identity: identities[index], provenCount: 0, failure: undefined, credentials: NO_CREDENTIALS, level: 'friend' }
    const prover = createSessionProver({
      identity: end.identity,
      levelOf: () => end.level,
      clock,
      credentials: { presentTo: (device) => end.credentials.presentTo(device), judge: (device, present) => end.credentials.judge(device, present) }
    })
    end.auth = new SessionAuth({ clock, prover }, { device: identities[1 - index as 0 | 1].did, sessionId, isController: index === 0 }, {
      onProven: () => { end.provenCount++ },
      onFailed: (err) => { end.failure ??= err }
    })
    return end as AuthEnd
  }
  const pair: AuthPair = {
    ends: [build(0), build(1)],
    carried: [],
    onPiece: (_from, piece) => piece,
    link: (epoch) => {
      const link: [WireEnd, WireEnd] = [new WireEnd(epoch), new WireEnd(epoch)]
      links.push(link)
      return link
    },
    use: (link) => {
      pair.ends[1].auth.use(link[1])
      pair.ends[0].auth.use(link[0])
    },
    settle: async () => {
      for (let quiet = 0; quiet < 2;) {
        await turns()
        quiet++
        for (const link of links) for (const from of [0, 1] as const) if (carry(link, from)) quiet = 0
      }
    },
    end: () => { for (const end of pair.ends) end.auth.end() }
  }
  return pair

  function carry (link: [WireEnd, WireEnd], from: 0 | 1): boolean {
    const to = from === 0 ? 1 : 0
    const pieces = link[from].wire.splice(0)
    for (const sent of pieces) {
      const piece = pair.onPiece(from, sent)
      if (piece === undefined || link[to].isGone) continue
      pair.carried.push({ from, piece: { isLast: piece.isLast, body: new Uint8Array(piece.body) } })
      give(pair.ends[to], link[to], piece)
    }
    return pieces.length > 0
  }
}

/** As the session does it: what `receive` throws ends it. */
export function give (end: AuthEnd, link: WireEnd, piece: Piece): void {
  try {
    end.auth.receive(link, piece.isLast, piece.body)
  } catch (err) {
    end.failure ??= err as CarrierError
    end.auth.end()
  }
}

/** Every chain of promises that is ready runs to its end. */
export async function turns (): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise<void>((resolve) => { setImmediate(resolve) })
}
