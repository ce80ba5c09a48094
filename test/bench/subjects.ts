/** What the bench compares, in the order of the table. A baseline is one more row. */
import { startNginx, startPipes, startPlain, startStunnel } from './subject-classic.ts'
import { startDirectForward, startRelayedForward, startRelayedForwardPublicCopy } from './subject-ours.ts'
import { startCircuitTunnel, startHypertele } from './subject-peers.ts'
import { startSsh, startSshThroughJumpHost } from './subject-ssh.ts'
import type { Subject } from './subject.ts'

/** All subjects. Gates refer to them by name (gates.ts). */
export const SUBJECTS = [
  { name: 'plain TCP', on: 'loopback', start: startPlain },
  { name: 'plain TCP over the cable', on: 'cable', start: startPlain },
  { name: 'forward, direct', on: 'cable', start: startDirectForward },
  { name: 'ssh -L', on: 'cable', start: startSsh },
  { name: 'stunnel', on: 'cable', start: startStunnel },
  { name: 'hypertele', on: 'cable', start: startHypertele },
  { name: 'forward, relayed', on: 'loopback', start: startRelayedForward },
  { name: 'forward, relayed, public-API copy', on: 'loopback', start: startRelayedForwardPublicCopy },
  { name: 'ssh -L through a jump host', on: 'loopback', start: startSshThroughJumpHost },
  { name: '3-hop Node pipe, unencrypted', on: 'loopback', start: startPipes },
  { name: 'stock circuit-relay-v2 tunnel', on: 'loopback', start: startCircuitTunnel },
  { name: 'nginx stream, 1 hop', on: 'loopback', start: startNginx }
] as const satisfies readonly Subject[]

/** The name of a subject. */
export type SubjectName = (typeof SUBJECTS)[number]['name']
