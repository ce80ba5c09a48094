/** Judges what the other end says about the channels at a resume, before anything is changed (I4). */
import { LIMITS } from '../base/index.ts'
import type { ChannelCore } from './channel-core.ts'
import { violation } from './frames.ts'
import type { ResumedEntry } from './frames.ts'

/** The other end's offsets, all parts together. */
export interface ResumedOffsets { highestId: number, entries: ResumedEntry[] }

/** This end, as far as it matters. */
export interface ResumeFacts {
  isLocalId: (id: number) => boolean
  highestLocalId: number
  highestRemoteId: number
  channel: (id: number) => ChannelCore | undefined
  channels: () => Iterable<ChannelCore>
}

/** @throws CarrierError ERR_PROTOCOL for what cannot be true; the result is the entries by channel id */
export function checkResume (peer: ResumedOffsets, facts: ResumeFacts): Map<number, ResumedEntry> {
  if (peer.highestId > Math.max(0, facts.highestLocalId)) throw violation(`a resume that knows of channel ${peer.highestId}, which was never opened`)
  if (peer.highestId !== 0 && !facts.isLocalId(peer.highestId)) throw violation(`a resume whose highest channel ${peer.highestId} is its own`)
  const entries = new Map<number, ResumedEntry>()
  for (const entry of peer.entries) {
    if (entries.has(entry.id)) throw violation(`a resume that names channel ${entry.id} twice`)
    entries.set(entry.id, entry)
    checkEntry(entry, peer.highestId, facts)
  }
  for (const channel of facts.channels()) {
    if (channel.isLocal && (channel.openState === 'known' || channel.openState === 'gone') && channel.id > peer.highestId) throw violation(`a resume that does not know channel ${channel.id} any more`)
  }
  return entries
}

function checkEntry (entry: ResumedEntry, highestId: number, facts: ResumeFacts): void {
  const { id, receivedBytes, limitBytes, isFinReceived } = entry
  if (id === 0) throw violation('a resume that names channel 0')
  if (limitBytes > receivedBytes + LIMITS.channelMaxCreditBytes) throw violation(`credit of channel ${id} beyond the maximum`)
  if (facts.isLocalId(id)) {
    if (id > highestId) throw violation(`a resume that names channel ${id} and does not know it`)
  } else if (id > facts.highestRemoteId && (receivedBytes > 0 || isFinReceived)) {
    throw violation(`a resume that received something on channel ${id}, which was never opened here`)
  }
  const channel = facts.channel(id)
  if (channel === undefined) return
  if (receivedBytes < channel.ackedBytes || receivedBytes > channel.sentBytes) throw violation(`a resume of channel ${id} at ${receivedBytes}, between ${channel.ackedBytes} and ${channel.sentBytes} were possible`)
  const isFinPossible = channel.sendState === 'fin-acked' || (channel.sendState === 'fin-sent' && receivedBytes === channel.sentBytes)
  if (isFinReceived ? !isFinPossible : channel.sendState === 'fin-acked') throw violation(`a resume that is wrong about the fin of channel ${id}`)
}
