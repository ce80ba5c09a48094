/** Who may dial a service: a pure decision, the only one, and the one answer for everybody else. I3 */
import { CarrierError } from '../base/index.ts'
import type { Did } from '../identity/index.ts'

/** The decision about one access; `why` is for our own log and never leaves this machine. */
export type AccessVerdict = { allow: true } | { allow: false, code: 'ERR_NOT_AVAILABLE', why: 'not-granted' | 'no-such-service' }

/** What is known about the service that was asked for; `allow` is undefined when there is none of that name. */
export interface AccessQuestion { owner: Did, allow: ReadonlySet<Did> | undefined }

const NOBODY: ReadonlySet<Did> = new Set()

/** Decides. The same look-up is made for a service that exists and for one that does not. */
export function judgeAccess (question: AccessQuestion): AccessVerdict {
  if ((question.allow ?? NOBODY).has(question.owner)) return { allow: true }
  return { allow: false, code: 'ERR_NOT_AVAILABLE', why: question.allow === undefined ? 'no-such-service' : 'not-granted' }
}

/** The answer for hidden, missing and not allowed. */
export function notAvailable (): CarrierError {
  return new CarrierError('ERR_NOT_AVAILABLE', 'not offered to you, or not there')
}
