/** Whom the places of a port are shared among: an IPv4 address, or an IPv6 /56, which is what one customer gets. Pure. */
import { isIPv4, isIPv6 } from 'node:net'

/** The key under which sockets of one source are counted; the empty string for a source that is not known (it is gone already). */
export function sourcePrefix (address: string | undefined): string {
  if (address === undefined) return ''
  const plain = unmapped(address)
  if (isIPv4(plain)) return plain
  const [unscoped = ''] = plain.split('%')
  if (!isIPv6(unscoped)) return ''
  // three whole groups and the upper byte of the fourth
  const groups = expand(unscoped)
  return `${groups.slice(0, 3).join(':')}:${(groups[3] ?? '').slice(0, 2)}`
}

function unmapped (address: string): string {
  const lower = address.toLowerCase()
  return lower.startsWith('::ffff:') && isIPv4(lower.slice(7)) ? lower.slice(7) : lower
}

/** The eight groups of an IPv6 address with four digits each; only the first four have to be right. */
function expand (address: string): string[] {
  const [head = '', tail = ''] = address.split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === '' ? [] : tail.split(':')
  // an IPv4 tail stands for two groups
  const afterCount = after.length + (after.at(-1)?.includes('.') === true ? 1 : 0)
  const missing = address.includes('::') ? Math.max(0, 8 - before.length - afterCount) : 0
  return [...before, ...Array.from({ length: missing }, () => '0'), ...after].map((group) => group.padStart(4, '0'))
}
