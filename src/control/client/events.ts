/** The daemon's events as an async iterable: server-sent events, one `event:` and one `data:` line each. */
import type { IncomingMessage } from 'node:http'
import { CarrierError } from '../../base/light.ts'
import type { ExchangeInit } from './http.ts'
import type { ControlEvent } from './event-table.ts'
import { EVENTS, isEventName } from './event-table.ts'
import { connectionError, openExchange, readAnswer, refusalOf } from './http.ts'
import { EVENTS_PATH } from './methods.ts'

/** A subscription. Iterate it once; leaving the loop or firing the signal ends it. */
export interface ControlEventStream extends AsyncIterable<ControlEvent> {
  /** Resolves when the daemon has subscribed us: what happens from then on is seen. */
  readonly opened: Promise<void>
}

/** Longest single event that is read. */
const MAX_EVENT_CHARACTERS = 1024 * 1024

/** Subscribes at once; see {@link ControlEventStream}. */
export function openEventStream (init: Pick<ExchangeInit, 'dataDirectory' | 'signal'>): ControlEventStream {
  const answer = subscribe(init)
  const opened = answer.then(() => {})
  // whoever iterates gets the failure too: it is never lost, so it need not end the process when only one of both is used
  opened.catch(() => {})
  return { opened, [Symbol.asyncIterator]: () => readEvents(init, answer) }
}

async function subscribe (init: Pick<ExchangeInit, 'dataDirectory' | 'signal'>): Promise<IncomingMessage> {
  const exchange: ExchangeInit = { ...init, verb: 'GET', path: EVENTS_PATH, headers: { accept: 'text/event-stream' } }
  const answer = await openExchange(exchange)
  if (answer.statusCode !== 200) throw refusalOf(answer.statusCode ?? 0, await readAnswer(exchange, answer))
  answer.setEncoding('utf8')
  return answer
}

async function * readEvents (init: Pick<ExchangeInit, 'dataDirectory' | 'signal'>, pending: Promise<IncomingMessage>): AsyncGenerator<ControlEvent> {
  const answer = await pending
  let rest = ''
  try {
    for await (const text of answer as AsyncIterable<string>) {
      rest += text
      if (rest.length > MAX_EVENT_CHARACTERS) throw new CarrierError('ERR_PROTOCOL', 'the daemon sent an event that is too long')
      const blocks = rest.split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) {
        const event = parseEvent(block)
        if (event !== undefined) yield event
      }
    }
  } catch (err) {
    throw connectionError(init, err)
  } finally {
    answer.destroy()
  }
  throw new CarrierError('ERR_LINK_LOST', 'the event stream ended: the daemon stopped or we read too slowly')
}

/** Comments (heartbeats), and events that a newer daemon may know, give undefined. */
function parseEvent (block: string): ControlEvent | undefined {
  const fields = new Map(block.split('\n').map((row) => {
    const colon = row.indexOf(':')
    return [row.slice(0, colon), row.slice(colon + 1).trimStart()]
  }))
  const name = fields.get('event')
  const data = fields.get('data')
  if (name === undefined || data === undefined || !isEventName(name)) return undefined
  const payload = EVENTS[name].payload.safeParse(JSON.parse(data))
  if (!payload.success) throw new CarrierError('ERR_PROTOCOL', `the daemon's event ${name} has another form than expected; do command and daemon have the same version?`)
  // the table pairs each name with its own schema; the compiler cannot see that through the union
  return { name, payload: payload.data } as ControlEvent
}
