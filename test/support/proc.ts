/** Facts about processes and sockets from /proc and ss (Linux). */
import { readFileSync } from 'node:fs'
import { mustRun } from './program.ts'
import type { Place } from './program.ts'

/** Ticks of utime and stime per second; Linux gives 100 to user space on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100

/** Processor time that a process has used, all its threads, in seconds (resolution 10 ms). */
export function cpuSeconds (pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** Resident memory of a process now and at its highest, in MB (10^6 bytes). */
export function residentMegabytes (pid: number): { now: number, peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const kilobytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? Number.NaN)
  return { now: kilobytes('VmRSS') * 1.024 / 1000, peak: kilobytes('VmHWM') * 1.024 / 1000 }
}

/** A socket that waits for connections or datagrams. */
export interface ListeningSocket { protocol: string, address: string, port: number, process: string }

/** Every listening TCP and UDP socket of the network that `place` is in. */
export async function listeningSockets (place: Place): Promise<ListeningSocket[]> {
  const text = await mustRun('ss', ['-H', '-l', '-n', '-t', '-u', '-p'], { place })
  return text.split('\n').filter((line) => line.trim() !== '').map((line) => {
    const [protocol = '', , , , local = '', , process = ''] = line.trim().split(/\s+/)
    const colon = local.lastIndexOf(':')
    return { protocol, address: local.slice(0, colon).replace(/^\[|\]$/g, '').replace(/%.*$/, ''), port: Number(local.slice(colon + 1)), process }
  })
}

/** True for an address that only the same machine reaches. */
export function isLoopbackAddress (address: string): boolean {
  return address.startsWith('127.') || address === '::1' || address.startsWith('::ffff:127.')
}
