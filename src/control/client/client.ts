/** The typed client of a local daemon. */
import type { Duplex } from 'node:stream'
import { CarrierError, LIMITS, startDeadline, systemClock } from '../../base/light.ts'
import type { ControlEventStream } from './events.ts'
import { openEventStream } from './events.ts'
import { exchangeJson } from './http.ts'
import type { MethodInput, MethodName, MethodOutput } from './methods.ts'
import { METHODS } from './methods.ts'
import { openPipe } from './pipe.ts'

/** Where the daemon is: the directory that holds its state, socket and token. */
export interface ControlClientInit { dataDirectory: string }

/** Talks to one daemon; holds nothing open between calls, so there is nothing to close. */
export interface ControlClient {
  /**
   * Calls a method of {@link METHODS}. Errors of the daemon arrive as CarrierError with the same code.
   *
   * @throws CarrierError ERR_NOT_RUNNING when no daemon answers, ERR_CANCELLED when the signal fired
   * @example const { did } = await client.call('friend.add', { address: 'cr1…', hello: 'it is me' })
   */
  call: <Name extends MethodName>(name: Name, input: MethodInput<Name>, options?: { signal?: AbortSignal }) => Promise<MethodOutput<Name>>
  /** Every event from now on. The iterable throws ERR_LINK_LOST when the daemon goes away. */
  events: (options?: { signal?: AbortSignal }) => ControlEventStream
  /** A byte pipe to `WHO/SERVICE`. See {@link openPipe}. */
  pipe: (to: string, options?: { signal?: AbortSignal }) => Promise<Duplex>
}

/** Makes a client; it reads socket and token anew for each call and so survives restarts of the daemon. */
export function createControlClient (init: ControlClientInit): ControlClient {
  const { dataDirectory } = init
  return {
    call: async (name, input, options = {}) => {
      const method = METHODS[name]
      const parsed = method.input.safeParse(input)
      if (!parsed.success) throw new CarrierError('ERR_INVALID_ARGUMENT', `${name}: ${describeIssue(parsed.error.issues[0])}`)
      const body = JSON.stringify(parsed.data)
      // every call has a deadline of its own in the daemon; this one is for a daemon that hangs
      using deadline = startDeadline(systemClock, LIMITS.controlCallMs,
        `the daemon did not answer ${name} within ${LIMITS.controlCallMs / 1000} s; see its log in ${dataDirectory}`, options.signal)
      const answer = await exchangeJson({
        dataDirectory,
        verb: method.verb,
        ...(method.verb === 'POST' ? { path: method.path, body } : { path: withQuery(method.path, parsed.data) }),
        signal: deadline.signal
      })
      const output = method.output.safeParse(answer)
      if (!output.success) throw new CarrierError('ERR_PROTOCOL', `the daemon's answer to ${name} has another form than expected; do command and daemon have the same version?`)
      // the table pairs each name with its own schema; the compiler cannot see that through the union
      return output.data as MethodOutput<typeof name>
    },
    events: (options = {}) => openEventStream({ dataDirectory, ...options }),
    pipe: async (to, options = {}) => openPipe({ dataDirectory, to, ...options })
  }
}

function withQuery (path: string, input: object): string {
  const query = new URLSearchParams(Object.entries(input).map(([name, value]) => [name, String(value)])).toString()
  return query === '' ? path : `${path}?${query}`
}

/** A schema's complaint in words. */
export function describeIssue (issue: { path: PropertyKey[], message: string } | undefined): string {
  if (issue === undefined) return 'invalid'
  const where = issue.path.map(String).join('.')
  return where === '' ? issue.message : `${where}: ${issue.message}`
}
