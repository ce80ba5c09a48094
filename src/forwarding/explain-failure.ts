/** What a failed probe or connection means for the person at the forward: who, why, what next. Pure. */
import { errorCode, errorMessage } from '../base/index.ts'

/** The sentence that `carrier forward list` shows as the reason. */
export function explainFailure (err: unknown, forward: { label: string, service: string }): string {
  const { label, service } = forward
  switch (errorCode(err)) {
    case 'ERR_NOT_AVAILABLE': return `${label} does not offer "${service}" to you, or it is not there; ask them for: carrier grant YOU ${service}`
    case 'ERR_REVOKED': return `${label} ended your access to "${service}"; ask them for it again`
    case 'ERR_TARGET_UNREACHABLE': return `${label} answered, but the program behind "${service}" did not; it is tried again by itself`
    case 'ERR_INTERNAL': return `${label} answered, but could not serve "${service}"; the log there says why`
    case 'ERR_LIMIT': return `${label} has no room for another connection to "${service}"; close some, it is tried again by itself`
    case 'ERR_UNSUPPORTED_VERSION': return `${label} runs another version of Carrier: ${errorMessage(err)}`
    default: return `${label} cannot be reached: ${errorMessage(err)}`
  }
}
