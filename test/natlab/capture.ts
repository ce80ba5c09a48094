/** A tap: tcpdump on one interface of a namespace. */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { startProgram } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { GiveUpError, waitFor } from '../support/wait.ts'
import type { Namespace } from './namespace.ts'

/** A running tap. */
export interface Capture {
  /** Bytes recorded so far, pcap headers included. */
  size: () => number
  /** Ends the recording and gives the pcap file's bytes; fails when the kernel dropped packets. */
  stop: () => Promise<Buffer>
}

/** One TCP segment that carried payload. */
export interface Segment { from: string, to: string, payload: Buffer }

const PCAP_HEADER_BYTES = 24
const RECORD_HEADER_BYTES = 16
const ETHERNET_HEADER_BYTES = 14
const IPV4 = 0x0800
const TCP = 6

/** Records whole packets on `device` of `namespace`. */
export async function startCapture (namespace: Namespace, device: string, filter = 'tcp'): Promise<Capture> {
  const file = join(makeTempDirectory('tap'), 'packets.pcap')
  const program = startProgram('tcpdump', ['-i', device, '-s', '0', '-B', '65536', '--immediate-mode', '-U', '-n', '-Z', 'root', '-w', file, filter], { place: namespace, name: 'tcpdump' })
  await waitFor('tcpdump to listen', () => {
    if (program.hasExited()) throw new GiveUpError(`tcpdump ended: ${program.stderr()}`)
    return program.stderr().includes('listening on')
  }, { deadlineMs: 10_000, intervalMs: 10 })
  const size = (): number => statSync(file).size
  return {
    size,
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
  const segments: Segment[] = []
  for (let offset = PCAP_HEADER_BYTES; offset + RECORD_HEADER_BYTES <= pcap.length;) {
    const length = pcap.readUInt32LE(offset + 8)
    const packet = pcap.subarray(offset + RECORD_HEADER_BYTES, offset + RECORD_HEADER_BYTES + length)
    offset += RECORD_HEADER_BYTES + length
    const segment = parseSegment(packet)
    if (segment !== undefined) segments.push(segment)
  }
  return segments
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
