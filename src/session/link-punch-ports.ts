/** Local ports to punch through, some of them made ready before they are asked for: that takes three round trips to a relay. */
import { abortable, CarrierError, LIMITS } from '../base/index.ts'
import type { Clock, TaskOwner, Timer } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { PunchPort } from '../node/index.ts'
import type { LinkNode } from './link-opener.ts'

/** The ports of a node. */
export interface LinkPunchPorts {
  /**
   * A port will most likely be needed for this friend. One for each, at most LIMITS.punchReadyCount, each for LIMITS.punchReadyMs;
   * none where the last one could not be made or was of no use to anybody. True when one is being made now.
   */
  makeReady: (device: Did) => boolean
  /** The port for this friend that is ready, or soon will be, else a new one; its taker closes it. @throws CarrierError as CarrierNode.preparePunch */
  take: (device: Did, signal: AbortSignal) => Promise<PunchPort>
  /** Closes those that wait, and tries anew what was in vain: another network. The end of the tasks does the same. */
  clear: () => void
}

interface Waiting { device: Did, port: Promise<PunchPort>, cancel: AbortController, timer: Timer }

/** Creates the store. */
export function createLinkPunchPorts ({ node, clock, tasks }: { node: Pick<LinkNode, 'canPunch' | 'preparePunch'>, clock: Clock, tasks: TaskOwner }): LinkPunchPorts {
  const waiting = new Map<Did, Waiting>()
  /** The last one could not be made, or would have been another one for every destination: friends who come and go must not make us ask relays again and again. */
  let isVain = false

  async function prepare (signal: AbortSignal): Promise<PunchPort> {
    try {
      const port = await node.preparePunch(signal)
      isVain = port.mapping === 'dependent'
      return port
    } catch (err) {
      if (!signal.aborted) isVain = true
      throw err
    }
  }

  function close ({ port, cancel, timer }: Waiting): void {
    timer.cancel()
    cancel.abort(new CarrierError('ERR_CANCELLED', 'the port is not needed'))
    port.then((made) => { made.close() }, () => { /* there is nothing to close */ })
  }

  function drop (one: Waiting): void {
    if (waiting.get(one.device) !== one) return
    waiting.delete(one.device)
    close(one)
  }

  function clear (): void {
    isVain = false
    for (const one of [...waiting.values()]) drop(one)
  }

  tasks.signal.addEventListener('abort', clear, { once: true })
  return {
    clear,
    makeReady: (device) => {
      if (isVain || waiting.has(device) || waiting.size >= LIMITS.punchReadyCount || !node.canPunch() || tasks.signal.aborted) return false
      const cancel = new AbortController()
      const port = prepare(AbortSignal.any([cancel.signal, tasks.signal]))
      const one: Waiting = { device, port, cancel, timer: clock.setTimer(() => { drop(one) }, LIMITS.punchReadyMs) }
      waiting.set(device, one)
      // whoever needs one then tries anew
      port.catch(() => { drop(one) })
      return true
    },
    take: async (device, signal) => {
      signal.throwIfAborted()
      const one = waiting.get(device)
      if (one === undefined) return prepare(signal)
      waiting.delete(device)
      one.timer.cancel()
      try {
        return await abortable(one.port, signal)
      } catch {
        // not wanted any more, or no relay answered then
        close(one)
        signal.throwIfAborted()
        return prepare(signal)
      }
    }
  }
}
