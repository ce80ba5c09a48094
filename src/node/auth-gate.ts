/** Runs the auth handshake once per connection and knows which connections passed it. */
import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { abortable, CarrierError, equalBytes, errorCode, errorMessage, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, Logger, TaskOwner } from '../base/index.ts'
import { didFromPeerId } from '../identity/index.ts'
import type { Did } from '../identity/index.ts'
import { AUTH_PROTOCOL, initiateAuth, respondAuth } from './auth.ts'
import type { AuthComponents, AuthResult } from './auth.ts'
import { closeSoon } from './close-connection.ts'
import { createPeerStream } from './stream-adapter.ts'
import type { PeerStream } from './types.ts'

/** A connection whose both ends proved their key. */
export interface AuthenticatedConnection {
  connection: Connection
  device: Did
  instanceId: Uint8Array | undefined
  /** Direct addresses that a friend told. */
  addresses: readonly string[]
}

/** What happens to connections. */
export interface AuthGateHooks {
  onPassed: (entry: AuthenticatedConnection) => void
  /** The last authenticated connection of the device is gone. */
  onGone: (device: Did) => void
  onFailed: (peer: PeerId, code: string) => void
  /** Two processes with one key are alive. */
  onDuplicate: (device: Did, instanceIds: [Uint8Array, Uint8Array]) => void
}

/** The gate. Connections are tracked from `open` to `closed`. */
export interface AuthGate {
  /** A connection was opened by us (`outbound`, the handshake starts now) or by them. */
  open: (connection: Connection) => void
  closed: (connection: Connection) => void
  /** The inbound auth stream of a connection. */
  handle: (stream: PeerStream, connection: Connection) => Promise<void>
  /** Resolves when the connection has passed. @throws CarrierError why it has not; the connection is closed then */
  passed: (connection: Connection, signal?: AbortSignal) => Promise<AuthenticatedConnection>
  /** All authenticated, open connections of a device. */
  connectionsOf: (device: Did) => AuthenticatedConnection[]
  all: () => AuthenticatedConnection[]
}

type State =
  { kind: 'pending', wait: PromiseWithResolvers<AuthenticatedConnection>, hasStarted: boolean } |
  { kind: 'passed', entry: AuthenticatedConnection } |
  { kind: 'failed', error: CarrierError }

/** Creates the gate; `ping` answers whether an older connection is still alive. */
export function createAuthGate (components: AuthComponents & { clock: Clock, log: Logger, tasks: () => TaskOwner, ping: (connection: Connection, signal: AbortSignal) => Promise<number> }, hooks: AuthGateHooks): AuthGate {
  const { clock, log, tasks } = components
  const states = new Map<Connection, State>()

  function open (connection: Connection): void {
    const wait = Promise.withResolvers<AuthenticatedConnection>()
    // a failure nobody waits for is told by onFailed
    wait.promise.catch(() => {})
    states.set(connection, { kind: 'pending', wait, hasStarted: false })
    if (connection.direction === 'outbound') tasks().run('auth', async (signal) => { await initiate(connection, signal) })
    else tasks().run('auth-deadline', async (signal) => { await expectAuth(connection, wait.promise, signal) })
  }

  async function initiate (connection: Connection, signal: AbortSignal): Promise<void> {
    using deadline = startDeadline(clock, LIMITS.authTimeoutMs, 'no auth handshake in time', signal)
    await run(connection, deadline.signal, async (device) => {
      const raw: Stream = await connection.newStream(AUTH_PROTOCOL, { signal: deadline.signal, runOnLimitedConnection: true, negotiateFully: false })
      return within(createPeerStream(raw), deadline.signal, async (stream) => initiateAuth(components, stream, device))
    })
  }

  async function expectAuth (connection: Connection, done: Promise<unknown>, signal: AbortSignal): Promise<void> {
    using deadline = startDeadline(clock, LIMITS.authTimeoutMs, 'the peer did not authenticate in time', signal)
    try {
      await abortable(done, deadline.signal)
    } catch (err) {
      fail(connection, err)
    }
  }

  async function handle (stream: PeerStream, connection: Connection): Promise<void> {
    const state = states.get(connection)
    if (state?.kind !== 'pending' || state.hasStarted || connection.direction !== 'inbound') throw new CarrierError('ERR_PROTOCOL', 'auth runs once, started by the side that connected')
    state.hasStarted = true
    using deadline = startDeadline(clock, LIMITS.authTimeoutMs, 'no auth handshake in time', tasks().signal)
    await run(connection, deadline.signal, async (device) => within(stream, deadline.signal, async () => respondAuth(components, stream, device)))
  }

  /** Runs one side and notes the outcome; never throws. */
  async function run (connection: Connection, signal: AbortSignal, side: (device: Did) => Promise<AuthResult>): Promise<void> {
    try {
      const result = await side(didFromPeerId(connection.remotePeer))
      pass(connection, result)
    } catch (err) {
      fail(connection, signal.aborted ? signal.reason : err)
    }
  }

  function pass (connection: Connection, result: AuthResult): void {
    const state = states.get(connection)
    // closed, or failed by its deadline, while the last frame was read
    if (state?.kind !== 'pending') return
    const isFriend = components.levelOf(result.device) === 'friend'
    const entry: AuthenticatedConnection = {
      connection,
      device: result.device,
      instanceId: isFriend ? result.hello.instance : undefined,
      addresses: isFriend ? result.hello.addrs ?? [] : []
    }
    const older = connectionsOf(result.device)
    states.set(connection, { kind: 'passed', entry })
    hooks.onPassed(entry)
    state.wait.resolve(entry)
    checkDuplicates(entry, older)
  }

  function fail (connection: Connection, err: unknown): void {
    const state = states.get(connection)
    if (state?.kind !== 'pending') return
    const error = err instanceof CarrierError ? err : new CarrierError('ERR_LINK_LOST', `the connection was lost while it authenticated: ${errorMessage(err)}`, { cause: err })
    states.set(connection, { kind: 'failed', error })
    state.wait.reject(error)
    if (!tasks().signal.aborted) hooks.onFailed(connection.remotePeer, errorCode(error))
    log.debug('auth failed', { peer: connection.remotePeer.toString(), err: error })
    closeSoon(connection)
  }

  /** After a crash the old connection may look alive for a while: only two instances that both answer are clones. */
  function checkDuplicates (entry: AuthenticatedConnection, older: AuthenticatedConnection[]): void {
    const { instanceId } = entry
    if (instanceId === undefined) return
    for (const other of older) {
      const otherId = other.instanceId
      if (otherId === undefined || equalBytes(otherId, instanceId)) continue
      tasks().run('duplicate-check', async (signal) => {
        using deadline = startDeadline(clock, LIMITS.linkSilenceMs, 'no answer', signal)
        try {
          await components.ping(other.connection, deadline.signal)
        } catch (err) {
          if (!signal.aborted) other.connection.abort(new CarrierError('ERR_LINK_LOST', 'a newer process of this device took over', { cause: err }))
          return
        }
        hooks.onDuplicate(entry.device, [otherId, instanceId])
      })
    }
  }

  function connectionsOf (device: Did): AuthenticatedConnection[] {
    return all().filter((entry) => entry.device === device)
  }

  function all (): AuthenticatedConnection[] {
    const entries: AuthenticatedConnection[] = []
    for (const state of states.values()) if (state.kind === 'passed' && state.entry.connection.status === 'open') entries.push(state.entry)
    return entries
  }

  return {
    open,
    handle,
    connectionsOf,
    all,
    closed: (connection) => {
      const state = states.get(connection)
      if (state === undefined) return
      if (state.kind === 'pending') fail(connection, new CarrierError('ERR_LINK_LOST', 'the connection closed while it authenticated'))
      states.delete(connection)
      if (state.kind === 'passed' && connectionsOf(state.entry.device).length === 0) hooks.onGone(state.entry.device)
    },
    passed: async (connection, signal) => {
      const state = states.get(connection)
      if (state === undefined) throw new CarrierError('ERR_LINK_LOST', 'the connection is closed')
      if (state.kind === 'failed') throw state.error
      return state.kind === 'passed' ? state.entry : abortable(state.wait.promise, signal)
    }
  }
}

/** Runs a conversation; the deadline resets its stream, so that nothing waits for the other side any longer. */
async function within<T> (stream: PeerStream, signal: AbortSignal, talk: (stream: PeerStream) => Promise<T>): Promise<T> {
  const onAbort = (): void => { stream.abort(new CarrierError('ERR_TIMEOUT', 'the auth handshake took too long')) }
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await talk(stream)
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
