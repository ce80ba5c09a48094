/** What the bench compares, in the order of the table. A baseline is one more row. */
import { startNginx, startPipes, startPlain, startStunnel } from './subject-classic.ts'
import { startDirectForward, startRelayedForward, startRelayedForwardPublicCopy } from './subject-ours.ts'
import { startCircuitTunnel, startHypertele } from './subject-peers.ts'
import { startSsh, startSshThroughJumpHost } from './subject-ssh.ts'
import type { Subject } from './subject.ts'

/** All subjects. Gates refer to them by name (gates.ts). */
export const SUBJECTS = [
  { name: 'plain TCP', start: startPlain },
  { name: 'forward, direct', start: startDirectForward },
  { name: 'ssh -L', start: startSsh },
  { name: 'stunnel', start: startStunnel },
  { name: 'hypertele', start: startHypertele },
  { name: 'forward, relayed', start: startRelayedForward },
  { name: 'forward, relayed, public-API copy', start: startRelayedForwardPublicCopy },
  { name: 'ssh -L through a jump host', start: startSshThroughJumpHost },
  { name: '3-hop Node pipe, unencrypted', start: startPipes },
  { name: 'stock circuit-relay-v2 tunnel', start: startCircuitTunnel },
  { name: 'nginx stream, 1 hop', start: startNginx }
] as const satisfies readonly Subject[]

/** The name of a subject. */
export type SubjectName = (typeof SUBJECTS)[number]['name']
