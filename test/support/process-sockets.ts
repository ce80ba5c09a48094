/** The listening TCP and bound UDP sockets of one process, from /proc (Linux). */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** A socket that somebody else could send to. */
export interface ProcessSocket { protocol: 'tcp' | 'tcp6' | 'udp' | 'udp6', address: string, isLoopback: boolean }

const TCP_LISTEN = '0A'
const UDP_UNCONNECTED = '07'

/** Reads what `pid` listens on; throws where /proc does not exist. */
export function processSockets (pid: number): ProcessSocket[] {
  const inodes = new Set<string>()
  for (const descriptor of readdirSync(`/proc/${pid}/fd`)) {
    const inode = socketInode(`/proc/${pid}/fd/${descriptor}`)
    if (inode !== undefined) inodes.add(inode)
  }
  const found: ProcessSocket[] = []
  for (const protocol of ['tcp', 'tcp6', 'udp', 'udp6'] as const) {
    const lines = readFileSync(`/proc/${pid}/net/${protocol}`, 'utf8').split('\n').slice(1)
    for (const line of lines) {
      const fields = line.trim().split(/\s+/)
      const [address, state, inode] = [fields[1], fields[3], fields[9]]
      if (address === undefined || inode === undefined || !inodes.has(inode)) continue
      if (state !== (protocol.startsWith('tcp') ? TCP_LISTEN : UDP_UNCONNECTED)) continue
      found.push({ protocol, address, isLoopback: isLoopback(address) })
    }
  }
  return found
}

function socketInode (path: string): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(path))?.[1]
  } catch {
    // the descriptor was closed between listing and reading
    return undefined
  }
}

/** Addresses are hex in host byte order, 32 bits at a time: 127.x.y.z ends in 7F, ::1 ends in 01000000. */
function isLoopback (address: string): boolean {
  const host = address.split(':')[0] ?? ''
  return host.length === 8 ? host.endsWith('7F') : host === '00000000000000000000000001000000' || (host.startsWith('0000000000000000FFFF0000') && host.endsWith('7F'))
}
