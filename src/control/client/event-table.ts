/** The one table of events: what the daemon sends and what the typed client gives. Names are stable; members are added, never renamed. */
import { z } from 'zod'
import { ForwardShape, PathShape, RelayShape } from './shapes.ts'

/** One event. */
export interface EventFacts<Payload extends z.ZodType> {
  payload: Payload
  /** One sentence for the documents. */
  about: string
}

const Did = z.object({ did: z.string() })
const Named = z.object({ did: z.string(), label: z.string() })

/** Every event of the stream. */
export const EVENTS = {
  'friend:requested': event(z.object({ did: z.string(), hello: z.string() }), 'somebody asks to become a friend'),
  'friend:added': event(Named, 'a friendship stands: they accepted our request, or we theirs'),
  'friend:rejected': event(Did, 'they declined our request'),
  'friend:removed': event(z.object({ did: z.string(), by: z.enum(['us', 'them']) }), 'a friendship ended'),
  'friend:blocked': event(Did, 'we blocked a peer'),
  'friend:labelled': event(Named, 'a friend has another label'),
  'friend:online': event(z.object({ did: z.string(), path: PathShape }), 'a friend can be reached'),
  'friend:offline': event(Did, 'a friend cannot be reached any more'),
  'session:opened': event(z.object({ did: z.string(), link: z.string(), path: PathShape }), 'a session with a friend stands'),
  'session:link': event(z.object({ did: z.string(), from: z.string(), link: z.string(), path: PathShape }), 'a session moved to another link, as planned: nothing stood still'),
  'session:lost': event(z.object({ did: z.string(), reason: z.string() }), 'a session lost its link: its channels stand still until it resumes or ends'),
  'session:resumed': event(z.object({ did: z.string(), link: z.string(), path: PathShape, stallMs: z.number() }), 'a session goes on over another link, after so many milliseconds'),
  'session:closed': event(z.object({ did: z.string(), code: z.string() }), 'a session ended, with the code of the reason'),
  'service:changed': event(z.object({ name: z.string() }), 'a service was offered, changed, granted, revoked or withdrawn'),
  'service:connection': event(z.object({ name: z.string(), owner: z.string(), state: z.enum(['open', 'closed']) }), 'a friend\'s connection to a service began or ended'),
  'forward:state': event(ForwardShape, 'the health of a forward changed'),
  'forward:closed': event(z.object({ listen: z.string(), to: z.string() }), 'a forward is gone'),
  'relay:state': event(RelayShape, 'the state of a relay changed'),
  'node:duplicate-identity': event(Did, 'two live processes use the key of this device'),
  'node:network-changed': event(z.object({ kind: z.enum(['addresses', 'woke']) }), 'this machine came to another network, or woke from sleep: every link is looked after'),
  'control:lagged': event(z.object({}), 'this stream\'s reader was too slow, events are missing and the stream ends: subscribe again, and ask for the status')
} as const

/** Name of an event. */
export type EventName = keyof typeof EVENTS

/** One event with its payload; switch on `name`. */
export type ControlEvent = { [Name in EventName]: { name: Name, payload: z.output<(typeof EVENTS)[Name]['payload']> } }[EventName]

/** True for a name of {@link EVENTS}; a newer daemon may send others. */
export function isEventName (name: string): name is EventName {
  return Object.hasOwn(EVENTS, name)
}

function event<Payload extends z.ZodType> (payload: Payload, about: string): EventFacts<Payload> {
  return { payload, about }
}
