/** From what was found to what `doctor` says. Pure: no I/O, no clock. */
import type { ClockVerdict } from '../identity/index.ts'
import type { Forward } from '../forwarding/index.ts'
import type { RelayStatus } from '../node/index.ts'
import type { DoctorCheck, ListenMode, NetReport, Presence } from '../carrier-types.ts'

/** A check without the names of what it looked at. */
export type Finding = Pick<DoctorCheck, 'result' | 'text'> & { advice?: string }

/** Puts a finding under its name. */
export function toCheck (name: string, finding: Finding, subject?: string): DoctorCheck {
  return { name, subject, result: finding.result, text: finding.text, advice: finding.advice }
}

/** Oldest Node that is supported; package.json says the same. */
const OLDEST_NODE_MAJOR = 24
const LOW_MEMORY_BYTES = 128 * 1024 * 1024
const LOW_DISK_BYTES = 100 * 1024 * 1024
const FULL_DISK_BYTES = 1024 * 1024
const LOW_FILE_LIMIT = 1024
/** Each access waits for one such write. */
const SLOW_WRITE_MS = 1_000
const LARGE_CLOCK_STEP_MS = 60_000

/** Node and the system. */
export function judgeRuntime ({ version, platform, arch }: { version: string, platform: string, arch: string }): Finding {
  const text = `Node ${version.replace(/^v/, '')} on ${platform} ${arch}`
  if (Number(version.replace(/^v/, '').split('.')[0]) < OLDEST_NODE_MAJOR) return { result: 'fail', text: `${text} is too old`, advice: `install Node ${OLDEST_NODE_MAJOR} or newer` }
  if (platform === 'linux') return { result: 'ok', text }
  return { result: 'warn', text: `${text}: only Linux is tested, macOS should work, Windows does not`, advice: 'if something is odd, try it on Linux first' }
}

/** What is left of the memory. */
export function judgeMemory ({ availableBytes, residentBytes }: { availableBytes: number, residentBytes: number }): Finding {
  const text = `${formatBytes(availableBytes)} free, this process holds ${formatBytes(residentBytes)}`
  return availableBytes < LOW_MEMORY_BYTES ? { result: 'warn', text, advice: 'give this machine or container more memory, or end other programs' } : { result: 'ok', text }
}

/** Each forwarded connection takes one. */
export function judgeOpenFiles (facts: { limit: number, used: number } | undefined): Finding {
  if (facts === undefined) return { result: 'ok', text: 'the limit is not known on this system' }
  const text = `${facts.used} of ${facts.limit} in use`
  if (facts.limit >= LOW_FILE_LIMIT && facts.used <= facts.limit * 0.8) return { result: 'ok', text }
  return { result: 'warn', text: `${text}: each forwarded connection takes one`, advice: 'raise the limit: "ulimit -n 65536" before "carrier up", or LimitNOFILE=65536 in a systemd unit' }
}

/** What is known of the data directory. */
export interface DirectoryFacts {
  path: string
  kind: 'missing' | 'other' | 'directory' | 'unreadable'
  /** Why it cannot be read. */
  reason: string | undefined
  mode: number
  isOwn: boolean
  /** Files of it that others may read or write, if they get at them. */
  openFiles: readonly string[]
}

/** Whether only its owner gets at it. */
export function judgeDirectory (facts: DirectoryFacts): Finding {
  const { path, kind, mode, isOwn, openFiles } = facts
  if (kind === 'missing') return { result: 'warn', text: `${path} does not exist yet`, advice: 'make it, and your identity, with: carrier up' }
  if (kind === 'other') return { result: 'fail', text: `${path} is not a directory`, advice: 'name another one with --data-dir' }
  if (kind === 'unreadable') return { result: 'fail', text: `${path} cannot be read: ${facts.reason ?? ''}`, advice: 'use the account that it belongs to' }
  if (!isOwn) return { result: 'fail', text: `${path} belongs to another account`, advice: 'use that account, or another --data-dir' }
  const isOpen = (mode & 0o077) !== 0
  if (isOpen && openFiles.length > 0) return { result: 'fail', text: `other accounts may enter ${path} and open ${openFiles.join(', ')}`, advice: `close it: chmod 700 ${path} && chmod 600 ${openFiles.map((name) => `${path}/${name}`).join(' ')}` }
  if (isOpen) return { result: 'warn', text: `other accounts may enter ${path} (mode ${octal(mode)})`, advice: `close it: chmod 700 ${path}` }
  if (openFiles.length > 0) return { result: 'warn', text: `${openFiles.join(', ')} in ${path}: the mode lets others in, only the directory keeps them out`, advice: `close them: chmod 600 ${openFiles.map((name) => `${path}/${name}`).join(' ')}` }
  return { result: 'ok', text: `${path}, for its owner only` }
}

/** Room, and a write that was really made durable; `reason`: why it could not be. */
export function judgeDisk (facts: { freeBytes: number | undefined, writeMs: number | undefined, reason: string | undefined }): Finding {
  const { freeBytes, writeMs, reason } = facts
  const free = freeBytes === undefined ? '' : `${formatBytes(freeBytes)} free`
  if (reason !== undefined) return { result: 'fail', text: `nothing can be written: ${reason}${free === '' ? '' : ` (${free})`}`, advice: 'make room, or give the account the right to write there; without it no access can be recorded, and so none is served' }
  const text = [free, writeMs === undefined ? '' : `a durable write took ${formatMs(writeMs)}`].filter((part) => part !== '').join(', ')
  if (freeBytes !== undefined && freeBytes < FULL_DISK_BYTES) return { result: 'fail', text, advice: 'make room: what cannot be recorded is not served' }
  if (freeBytes !== undefined && freeBytes < LOW_DISK_BYTES) return { result: 'warn', text, advice: 'make room: a full disk ends service' }
  if (writeMs !== undefined && writeMs > SLOW_WRITE_MS) return { result: 'warn', text: `${text}: every connection to a service waits for one`, advice: 'move the data directory to a faster disk, or see what else writes to this one' }
  return { result: 'ok', text }
}

/** The clock; `steppedMs`: how far it moved against the steady one since the start. */
export function judgeClock (verdict: ClockVerdict, steppedMs: number): Finding {
  if (!verdict.isSure) return { result: 'fail', text: verdict.reason, advice: 'set the clock, or switch on its synchronisation (timedatectl set-ntp true)' }
  if (Math.abs(steppedMs) < LARGE_CLOCK_STEP_MS) return { result: 'ok', text: 'nothing speaks against it' }
  return { result: 'ok', text: `it moved by ${Math.round(steppedMs / 1000)} s against the steady clock since the start: the machine slept, or somebody set it` }
}

/** One relay; with another one that works a dead one is no failure. */
export function judgeRelay (relay: RelayStatus, isAnotherReserved: boolean): Finding {
  const time = relay.rttMs === undefined ? '' : `, ${formatMs(relay.rttMs)} there and back`
  if (relay.state === 'standby') return { result: 'ok', text: `on stand-by, others are better${time}` }
  if (relay.state === 'reserved') {
    return relay.reason === undefined ? { result: 'ok', text: `reserved${time}` } : { result: 'warn', text: `reserved${time}, but ${relay.reason}`, advice: 'nothing: another relay takes over by itself, if one is named' }
  }
  const reason = relay.reason ?? 'no answer yet'
  if (relay.state === 'connecting') return { result: 'warn', text: `is being connected: ${reason}`, advice: 'look again in some seconds' }
  return { result: isAnotherReserved ? 'warn' : 'fail', text: `${relay.state}: ${reason}`, advice: 'it is tried again by itself; if it stays so, ask its operator or name another relay' }
}

/** Two findings about one thing: the worse result, both texts, the first advice. */
export function joinFindings (one: Finding, other: Finding): Finding {
  const result = (['fail', 'warn'] as const).find((worst) => one.result === worst || other.result === worst) ?? 'ok'
  const advice = one.advice ?? other.advice
  return { result, text: `${one.text}; ${other.text}`, ...(advice === undefined ? {} : { advice }) }
}

/** The port of a relay through which splices go; without it bytes take the slower circuit. */
export function judgeDataPort (found: { kind: 'none' } | { kind: 'answered', port: number, ms: number } | { kind: 'failed', reason: string }): Finding {
  switch (found.kind) {
    case 'none': return { result: 'ok', text: 'it offers no data port, or a proxy is in between: bytes take the slower circuit' }
    case 'answered': return { result: 'ok', text: `data port ${found.port} answered in ${formatMs(found.ms)}` }
    case 'failed': return { result: 'warn', text: `its data port does not answer (${found.reason}): bytes take the slower circuit`, advice: 'let this machine connect to that port (firewall here, or at the relay)' }
  }
}

/** Which IP this machine can send to; from the kernel's table, nothing is sent. */
export function judgeRoutes ({ ipv4, ipv6 }: { ipv4: string | undefined, ipv6: string | undefined }): Finding {
  const text = `IPv4 ${ipv4 === undefined ? 'no' : `from ${ipv4}`}, IPv6 ${ipv6 === undefined ? 'no' : `from ${ipv6}`}`
  return ipv4 === undefined && ipv6 === undefined ? { result: 'warn', text: `${text}: there is no way out of this machine`, advice: 'look at its network connection' } : { result: 'ok', text }
}

/** What kind of router stands in between. */
export function judgeRouter ({ nat, reason, seenAs }: Pick<NetReport, 'nat' | 'reason' | 'seenAs'>): Finding {
  const seen = seenAs.length === 0 ? '' : `; seen as ${seenAs.join(', ')}`
  switch (nat) {
    case 'none': return { result: 'ok', text: `none: this machine has a public address${seen}` }
    case 'independent': return { result: 'ok', text: `one port for all destinations: friends can punch through${seen}` }
    case 'dependent': return { result: 'warn', text: `another port for every destination: nobody can punch through${seen}`, advice: 'let the other side listen, or forward a port here and use: carrier up --listen public' }
    case 'unknown': return { result: 'ok', text: `not known: ${reason ?? 'nobody said'}${seen}` }
  }
}

/** Listeners of our own. */
export function judgeListen (mode: ListenMode, bound: readonly string[]): Finding {
  if (mode === 'none') return { result: 'ok', text: 'nothing listens, as set: reached through relays and punched ways only' }
  if (bound.length === 0) return { result: 'fail', text: `listen = ${mode}, but nothing listens`, advice: 'look whether this machine has an address of that kind (carrier netcheck), or choose another --listen' }
  return { result: 'ok', text: `listen = ${mode}: ${bound.join(', ')}` }
}

/** Whether friends can come at all; `problems` are the node's own sentences. */
export function judgeReachable (isReachable: boolean, problems: readonly string[], reserved: { count: number, of: number }): Finding {
  const text = problems.length > 0 ? problems.join('; ') : `${reserved.count} of ${reserved.of} relays hold a place for this node`
  if (!isReachable) return { result: 'fail', text: problems.length > 0 ? text : `nobody can reach this node: ${text}`, advice: reserved.of === 0 ? 'name a relay: carrier up --relay MULTIADDR' : 'look at the relays below, and at the connection of this machine' }
  return { result: problems.length > 0 ? 'warn' : 'ok', text }
}

/** Friends; that one is away is nobody's fault, that all are may be. */
export function judgeFriends (friends: ReadonlyArray<{ label: string, presence: Presence }>, waitingCount: number): Finding {
  const labelsOf = (presence: Presence): string[] => friends.filter((friend) => friend.presence === presence).map(({ label }) => label)
  const [online, offline, asked] = [labelsOf('online'), labelsOf('offline'), labelsOf('requested')]
  const parts = [
    ...friends.length === 0 ? ['none yet'] : [],
    ...online.length + offline.length === 0 ? [] : [`${online.length} of ${online.length + offline.length} online`],
    ...offline.length === 0 ? [] : [`away: ${list(offline)}`],
    ...asked.length === 0 ? [] : [`not answered yet: ${list(asked)}`],
    ...waitingCount === 0 ? [] : [`${waitingCount} wait for your answer`]
  ]
  const text = parts.join('; ')
  if (online.length === 0 && offline[0] !== undefined) return { result: 'warn', text, advice: `look why: carrier why ${offline[0]}` }
  if (waitingCount > 0) return { result: 'ok', text, advice: 'answer them: carrier friend requests' }
  return { result: 'ok', text }
}

/** One forward. */
export function judgeForward ({ state, to, reason }: Pick<Forward, 'state' | 'to' | 'reason'>): Finding {
  const text = `${to} is ${state}${reason === undefined ? '' : `: ${reason}`}`
  switch (state) {
    case 'active': return { result: 'ok', text }
    case 'connecting': return { result: 'warn', text, advice: 'look again in some seconds' }
    case 'offline': return { result: 'warn', text, advice: `look why: carrier why ${to}` }
    case 'refused':
    case 'target-down': return { result: 'fail', text, advice: `look how far a connection comes: carrier trace ${to}` }
    case 'error': return { result: 'fail', text, advice: 'close it, or open it on another port: carrier forward list' }
  }
}

/** Bytes in a unit that people read. */
export function formatBytes (bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'] as const
  const step = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log10(bytes) / 3))
  const amount = bytes / 1000 ** step
  return `${step === 0 || amount >= 10 ? Math.round(amount) : amount.toFixed(1)} ${units[step] ?? 'bytes'}`
}

function formatMs (ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
}

function octal (mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0')
}

/** The first few, and how many more. */
function list (labels: readonly string[]): string {
  return labels.length <= 5 ? labels.join(', ') : `${labels.slice(0, 5).join(', ')} and ${labels.length - 5} more`
}
