/** Tells listeners and the log what changed in the friend list. */
import type { Emitter, Logger } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Directory } from './directory.ts'
import type { RelationFact } from './relation.ts'
import type { FriendEvents } from './types.ts'

/** Emits the event of a fact, if it has one, and logs the fact. Call after the change is durable. */
export function announce (components: { events: Emitter<FriendEvents>, directory: Directory, log: Logger }, did: Did, fact: RelationFact, hello = ''): void {
  const { events, directory, log } = components
  log.info('the friend list changed', { did, fact })
  switch (fact) {
    case 'they-asked':
      events.emit('friend:requested', { did, hello })
      break
    case 'we-accepted':
    case 'they-accepted':
      events.emit('friend:added', { did, label: directory.get(did)?.label ?? '' })
      break
    case 'they-rejected':
      events.emit('friend:rejected', { did })
      break
    case 'we-removed':
    case 'we-withdrew':
      events.emit('friend:removed', { did, by: 'us' })
      break
    case 'they-removed':
      events.emit('friend:removed', { did, by: 'them' })
      break
    case 'we-blocked':
      events.emit('friend:blocked', { did })
      break
    case 'we-asked':
    case 'we-rejected':
    case 'we-unblocked':
      // these concern only whoever gave the command
      break
  }
}
