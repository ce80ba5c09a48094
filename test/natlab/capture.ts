/** A tap: tcpdump on one interface of a namespace. */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { startProgram } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { GiveUpError, PATIENCE_MS, waitFor } from '../support/wait.ts'
import type { Namespace } from './namespace.ts'

/** A running tap. */
export interface Capture {
  /** Bytes recorded so far, pcap headers included. */
  size: () => number
  /** What was recorded so far; the last packet may be cut short. */
  soFar: () => Buffer
  /** Ends the recording and gives the pcap file's bytes; fails when the kernel dropped packets. */
  stop: () => Promise<Buffer>
}

/** One TCP segment that carried payload. */
export interface Segment { from: string, to: string, payload: Buffer }

/** One IP packet: hosts, and for TCP and UDP ports too (0 for anything else). `protocol` is the number of the IP header (6 TCP, 17 UDP). */
export interface IpPacket { protocol: number, from: string, to: string, toPort: number }

const PCAP_HEADER_BYTES = 24
const RECORD_HEADER_BYTES = 16
const ETHERNET_HEADER_BYTES = 14
const IPV4 = 0x0800
const IPV6 = 0x86dd
const IPV6_HEADER_BYTES = 40
const TCP = 6
const UDP = 17

/** Records whole packets on `device` of `namespace`. */
export async function startCapture (namespace: Namespace, device: string, filter = 'tcp'): Promise<Capture> {
  const file = join(makeTempDirectory('tap'), 'packets.pcap')
  const program = startProgram('tcpdump', ['-i', device, '-s', '0', '-B', '65536', '--immediate-mode', '-U', '-n', '-Z', 'root', '-w', file, filter], { place: namespace, name: 'tcpdump' })
  await waitFor('tcpdump to listen', () => {
    if (program.hasExited()) throw new GiveUpError(`tcpdump ended: ${program.stderr()}`)
    return program.stderr().includes('listening on')
  }, { deadlineMs: PATIENCE_MS, intervalMs: 10 })
  const size = (): number => statSync(file).size
  return {
    size,
    soFar: () => readFileSync(file),
    stop: async () => {
      await program.stop({ signal: 'SIGINT' })
      const dropped = /(\d+) packets? dropped by kernel/.exec(program.stderr())?.[1]
      if (dropped !== '0') throw new Error(`the tap is not complete: ${program.stderr()}`)
      return readFileSync(file)
    }
  }
}

/** The TCP payloads of a recording, in order. */
export function segmentsOf (pcap: Buffer): Segment[] {
  return framesOf(pcap).flatMap((frame) => parseSegment(frame) ?? [])
}

/** The IPv4 and IPv6 packets of a recording, in order. */
export function packetsOf (pcap: Buffer): IpPacket[] {
  return framesOf(pcap).flatMap((frame) => parsePacket(frame) ?? [])
}

function framesOf (pcap: Buffer): Buffer[] {
  const frames: Buffer[] = []
  for (let offset = PCAP_HEADER_BYTES; offset + RECORD_HEADER_BYTES <= pcap.length;) {
    const length = pcap.readUInt32LE(offset + 8)
    frames.push(pcap.subarray(offset + RECORD_HEADER_BYTES, offset + RECORD_HEADER_BYTES + length))
    offset += RECORD_HEADER_BYTES + length
  }
  return frames
}

function parsePacket (frame: Buffer): IpPacket | undefined {
  if (frame.length < ETHERNET_HEADER_BYTES + 20) return undefined
  const etherType = frame.readUInt16BE(12)
  const ip = frame.subarray(ETHERNET_HEADER_BYTES)
  if (etherType === IPV4) {
    const protocol = ip[9] ?? 0
    return { protocol, from: dotted(ip, 12), to: dotted(ip, 16), toPort: portOf(protocol, ip.subarray(((ip[0] ?? 0) & 0x0f) * 4)) }
  }
  if (etherType !== IPV6 || ip.length < IPV6_HEADER_BYTES) return undefined
  const protocol = ip[6] ?? 0
  return { protocol, from: hextets(ip, 8), to: hextets(ip, 24), toPort: portOf(protocol, ip.subarray(IPV6_HEADER_BYTES)) }
}

function portOf (protocol: number, transport: Buffer): number {
  return (protocol === TCP || protocol === UDP) && transport.length >= 4 ? transport.readUInt16BE(2) : 0
}

/** An IPv6 address in full: eight groups without leading zeros. */
function hextets (ip: Buffer, offset: number): string {
  return Array.from({ length: 8 }, (_group, index) => ip.readUInt16BE(offset + 2 * index).toString(16)).join(':')
}

function parseSegment (packet: Buffer): Segment | undefined {
  if (packet.length < ETHERNET_HEADER_BYTES + 40 || packet.readUInt16BE(12) !== IPV4) return undefined
  const ip = packet.subarray(ETHERNET_HEADER_BYTES)
  if (ip[9] !== TCP) return undefined
  const ipHeaderBytes = ((ip[0] ?? 0) & 0x0f) * 4
  const tcp = ip.subarray(ipHeaderBytes, ip.readUInt16BE(2))
  const payload = tcp.subarray(((tcp[12] ?? 0) >> 4) * 4)
  if (payload.length === 0) return undefined
  return { from: `${dotted(ip, 12)}:${tcp.readUInt16BE(0)}`, to: `${dotted(ip, 16)}:${tcp.readUInt16BE(2)}`, payload }
}

function dotted (ip: Buffer, offset: number): string {
  return [...ip.subarray(offset, offset + 4)].join('.')
}
