/**
 * The hello text of a request. It is written by strangers and shown on terminals, so it is one line of valid UTF-8
 * without control characters: a sender is told so, and from the network anything else is a protocol error.
 */
import { CarrierError, LIMITS, utf8Decode, utf8Encode } from '../base/index.ts'

/**
 * C0, DEL and C1 controls (escape sequences, line ends), line and paragraph separators, and the characters that turn the
 * writing direction (with them a text can be shown in another order than it is written).
 */
const UNSAFE = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u

/**
 * Checks a hello that we are to send.
 *
 * @throws CarrierError ERR_HELLO_TOO_LONG, ERR_INVALID_ARGUMENT
 */
export function assertHello (hello: string): void {
  if (!hello.isWellFormed()) throw new CarrierError('ERR_INVALID_ARGUMENT', 'the hello holds half a character (an unpaired surrogate); write it again as plain text')
  const length = utf8Encode(hello).length
  if (length > LIMITS.helloBytes) {
    throw new CarrierError('ERR_HELLO_TOO_LONG', `the hello has ${length} bytes, at most ${LIMITS.helloBytes} are sent; shorten it`, { detail: { bytes: length, maxBytes: LIMITS.helloBytes } })
  }
  if (UNSAFE.test(hello)) throw new CarrierError('ERR_INVALID_ARGUMENT', 'the hello holds line ends or control characters; write it as one line of plain text')
}

/**
 * The text of a received hello.
 *
 * @throws CarrierError ERR_PROTOCOL
 */
export function decodeHello (bytes: Uint8Array): string {
  let hello: string
  try {
    hello = utf8Decode(bytes)
  } catch (err) {
    throw new CarrierError('ERR_PROTOCOL', 'the hello is not valid UTF-8', { cause: err })
  }
  if (UNSAFE.test(hello)) throw new CarrierError('ERR_PROTOCOL', 'the hello holds control characters')
  return hello
}
