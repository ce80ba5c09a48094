/** The data path of a TLS link whose other end is proven. */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { CarrierError, LIMITS, readInto, toCarrierError } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'
import type { Link, LinkHandler } from './link.ts'
import { destroyTls, errorCodeText } from './tls-handshake.ts'
import type { TlsLinkInit } from './tls-link-init.ts'

/**
 * Longest message: one write of so many bytes is one call into OpenSSL and one system call. 64, 128 and 256 KiB cost the same
 * within what can be measured; the shortest is the least in front of a keystroke. Five records hold what sockets are read
 * in, 64 KiB, and its frame headers: with four the last bytes of each read would be a message of their own.
 */
const MESSAGE_BYTES = 5 * 16_384
/** One message is on its way through the kernel, the next is ready: node:tls then never joins two into a copy. */
const QUEUED_MESSAGES = 2
/** OpenSSL gives one record at a time. */
const READ_BYTES = 16_384

/** Makes a link of a TLS socket; called in the event that proved the other end, so that no event is missed. */
export function createTlsPipe (components: { clock: Clock }, init: { tls: TLSSocket, socket: Socket } & Pick<TlsLinkInit, 'kind' | 'path' | 'relayPeerId'>): Link {
  const { clock } = components
  const { tls, socket, kind, path, relayPeerId } = init
  const closed = Promise.withResolvers<undefined>()
  let handler: LinkHandler | undefined
  let lost: CarrierError | undefined
  let ending: Promise<void> | undefined
  let linger: Timer | undefined
  let isPaused = false
  let waitingCount = 0
  let isDrainOwed = false

  function onData (chunk: Uint8Array): void {
    if (lost !== undefined) return
    try {
      handler?.onBytes(chunk)
    } catch (err) {
      // the session judges what it gets; whatever it throws ends this link and no other
      finish(toCarrierError(err))
    }
  }

  function onWritten (): void {
    waitingCount--
    if (!isDrainOwed || lost !== undefined) return
    isDrainOwed = false
    handler?.onDrain()
  }

  function finish (err: CarrierError): void {
    if (lost !== undefined) return
    lost = err
    linger?.cancel()
    tls.off('data', onData)
    destroyTls(tls, socket)
    handler?.onClosed(err)
  }

  async function end (): Promise<void> {
    if (lost !== undefined) return
    linger = clock.setTimer(() => { finish(new CarrierError('ERR_LINK_LOST', 'the other side did not close the link')) }, LIMITS.linkLingerMs)
    await new Promise<void>((resolve) => {
      tls.end(resolve)
      tls.once('close', resolve)
    })
  }

  if (socket.destroyed) closed.resolve(undefined)
  else socket.once('close', () => { closed.resolve(undefined) })
  tls.on('error', (err) => { finish(lossOf(err)) })
  tls.once('end', () => { finish(new CarrierError('ERR_LINK_LOST', 'the other side closed the link')) })
  tls.once('close', () => { finish(new CarrierError('ERR_LINK_LOST', 'the connection to the peer was lost')) })

  return {
    kind,
    path,
    relayPeerId,
    messageBytes: MESSAGE_BYTES,
    closed: closed.promise,
    open: (next) => {
      if (lost !== undefined) {
        const err = lost
        queueMicrotask(() => { next.onClosed(err) })
        return
      }
      handler = next
      const memory = Buffer.allocUnsafeSlow(READ_BYTES)
      const isReading = readInto(tls, {
        buffer: () => memory,
        onRead: (byteCount) => {
          onData(byteCount === READ_BYTES ? memory : memory.subarray(0, byteCount))
          return !isPaused && lost === undefined
        }
      }, onData)
      if (!isReading) tls.on('data', onData)
      if (isPaused) tls.pause()
      else tls.resume()
    },
    write: (message) => {
      if (lost !== undefined || ending !== undefined) return true
      waitingCount++
      tls.write(message, onWritten)
      isDrainOwed ||= waitingCount >= QUEUED_MESSAGES
      return !isDrainOwed
    },
    pause: () => {
      isPaused = true
      tls.pause()
    },
    resume: () => {
      isPaused = false
      if (handler !== undefined) tls.resume()
    },
    close: async () => {
      ending ??= end()
      await ending
    },
    abort: finish
  }
}

function lossOf (err: unknown): CarrierError {
  const code = errorCodeText(err)
  const what = code.startsWith('ERR_SSL_') ? `what arrived was tampered or broken on the way (${code})` : code
  return new CarrierError('ERR_LINK_LOST', `the link to the peer was lost: ${what}`, { cause: err })
}
