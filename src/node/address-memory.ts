/** An {@link AddressStore} that forgets at exit: for nodes whose owner keeps no addresses. */
import { LIMITS } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AddressStore } from './dialer.ts'

/** Creates an empty memory for at most LIMITS.friendCount devices; the one not used for longest is forgotten. */
export function createAddressMemory (): AddressStore {
  const known = new Map<Did, string[]>()
  return {
    recall: (device) => known.get(device) ?? [],
    remember: (device, multiaddrs) => {
      const merged = [...new Set([...multiaddrs, ...known.get(device) ?? []])].slice(0, LIMITS.rememberedAddressCount)
      known.delete(device)
      known.set(device, merged)
      const oldest = known.keys().next()
      if (known.size > LIMITS.friendCount && oldest.done !== true) known.delete(oldest.value)
    }
  }
}
