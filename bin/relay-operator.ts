/** Commands of `carrier-bootstrap` that speak to a running relay over the socket in its data directory. */
import { request } from 'node:http'
import { join } from 'node:path'
import { CarrierError, errorMessage, isErrorCode } from '../src/base/light.ts'
import type { PeerView, ReachState, ReloadState, RelayStatus } from '../src/bootstrap/index.ts'
import { formatDuration, table } from './output.ts'

/** The commands. */
export type OperatorCommand = 'status' | 'peers' | 'reload' | 'drain'

/** How they are asked for. */
export interface OperatorOptions { dataDirectory: string, isJson: boolean, isFull: boolean, isWaiting: boolean }

/**
 * Runs one and prints what it gives.
 *
 * @throws CarrierError ERR_NOT_RUNNING, ERR_CONFIG (a reload was refused), and what the relay says
 */
export async function runOperatorCommand (command: OperatorCommand, options: OperatorOptions): Promise<void> {
  switch (command) {
    case 'status': {
      const status = await ask<RelayStatus>(options, 'GET', '/v1/status')
      print(options, status, describeStatus(status))
      return
    }
    case 'peers': {
      const { peers } = await ask<{ peers: PeerView[] }>(options, 'GET', `/v1/peers${options.isFull ? '?full=1' : ''}`)
      const rows = peers.map(({ limits, ...peer }) => [peer.who, peer.class, ofLimit(peer.reservations, limits.reservations), ofLimit(peer.circuits, limits.circuits), ofLimit(peer.sentTodayBytes, limits.bytesPerDay), String(limits.bytesPerSecond ?? 'any')])
      print(options, peers, rows.length === 0 ? 'nobody uses it' : table(['WHO', 'CLASS', 'RESERVATIONS', 'CIRCUITS', 'SENT TODAY (BYTES)', 'BYTES PER SECOND'], rows))
      return
    }
    case 'reload': {
      const state = await ask<ReloadState>(options, 'POST', '/v1/reload')
      if (state.result === 'refused') throw new CarrierError('ERR_CONFIG', `${state.error ?? 'the configuration is wrong'}; the old one stays`)
      print(options, state, describeReload(state))
      return
    }
    case 'drain': {
      const { withinMs } = await ask<{ withinMs: number }>(options, 'POST', '/v1/drain')
      const isStopped = options.isWaiting && await isGone(options, withinMs + STOP_MS)
      if (options.isWaiting && !isStopped) throw new CarrierError('ERR_TIMEOUT', 'the relay drains, but has not stopped in time; see its log')
      print(options, { withinMs, isStopped }, isStopped ? 'drained and stopped' : `draining; it stops within ${formatDuration(withinMs)}`)
    }
  }
}

/** How much it uses, and of how much, where that is bounded. */
function ofLimit (used: number, limit: number | undefined): string { return limit === undefined ? String(used) : `${used} of ${limit}` }

function describeStatus (status: RelayStatus): string {
  const { admission, lastReload } = status
  const listed = admission.allow + admission.members + admission.friends
  return [
    `${status.isDraining ? 'draining' : status.isReady ? 'ready' : 'starting'}, up ${formatDuration(status.uptimeMs)}, version ${status.version}, pid ${status.pid}`,
    `peer id       ${status.peerId}`,
    `announces     ${status.reach.addresses.length === 0 ? 'nothing: set announce' : status.reach.addresses.map(({ address, result }) => `${address} (${REACH_WORDS[result]})`).join('\n              ')}`,
    ...status.reach.reason === undefined ? [] : [`              not verified: ${status.reach.reason}`],
    `splices at    ${status.splice === undefined ? 'off' : `port ${status.splice}`}`,
    `load          ${(status.loadPermille / 10).toFixed(1)} %`,
    `connections   ${status.connections}, ${status.pendingConnections} in their handshake`,
    `reservations  ${status.reservations}`,
    `circuits      ${status.circuits}, splices ${status.splices}`,
    `serves        ${admission.mode === 'open' ? 'everybody' : admission.mode}${listed === 0 ? '' : `; on lists: ${admission.allow} allowed, ${admission.members} members, ${admission.friends} friends`}`,
    ...lastReload === undefined ? [] : [`last reload   ${new Date(lastReload.at).toISOString()}: ${lastReload.result === 'ok' ? describeReload(lastReload) : `refused: ${lastReload.error ?? ''}`}`]
  ].join('\n')
}

function describeReload ({ changed, needRestart }: ReloadState): string {
  const now = changed.length === 0 ? 'read again, nothing differs' : `changed: ${changed.join(', ')}`
  return needRestart.length === 0 ? now : `${now}; after a restart: ${needRestart.join(', ')}`
}

function print ({ isJson }: OperatorOptions, value: object, text: string): void {
  process.stdout.write(`${isJson ? JSON.stringify(value) : text}\n`)
}

async function isGone (options: OperatorOptions, withinMs: number): Promise<boolean> {
  const endMs = performance.now() + withinMs
  while (performance.now() < endMs) {
    await new Promise<void>((resolve) => { setTimeout(resolve, LOOK_MS) })
    try {
      await ask(options, 'GET', '/v1/status')
    } catch (err) {
      if (err instanceof CarrierError && err.code === 'ERR_NOT_RUNNING') return true
      throw err
    }
  }
  return false
}

async function ask<Answer extends object> (options: OperatorOptions, method: string, path: string): Promise<Answer> {
  const text = await new Promise<string>((resolve, reject) => {
    const socketPath = join(options.dataDirectory, 'control.sock')
    const sent = request({ socketPath, method, path, timeout: ANSWER_MS }, (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => { parts.push(part) })
      response.on('error', reject)
      response.on('end', () => { resolve(Buffer.concat(parts).toString()) })
    })
    sent.on('timeout', () => { sent.destroy(new CarrierError('ERR_TIMEOUT', 'the relay does not answer on its control socket')) })
    sent.on('error', (err) => {
      reject(err instanceof CarrierError ? err : new CarrierError('ERR_NOT_RUNNING', `no relay answers at ${socketPath} (${errorMessage(err)}); is it running, with this --data-dir or --config, and are you its user?`, { cause: err }))
    })
    sent.end()
  })
  const value = JSON.parse(text) as Answer | { error: { code: string, message: string } }
  if ('error' in value && typeof value.error === 'object' && value.error !== null && 'code' in value.error) {
    throw new CarrierError(isErrorCode(value.error.code) ? value.error.code : 'ERR_INTERNAL', value.error.message)
  }
  return value as Answer
}

const REACH_WORDS = {
  reachable: 'another relay reaches it',
  unreachable: 'another relay cannot reach it',
  other: 'somebody else answers there',
  skipped: 'not checked',
  unknown: 'not verified'
} as const satisfies Record<ReachState['result'], string>

const ANSWER_MS = 10_000
const LOOK_MS = 250
/** After the drain the parts still stop. */
const STOP_MS = 15_000
