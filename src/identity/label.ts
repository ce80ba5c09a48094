/** Names that people give to friends, services and addresses: DNS labels that cannot be mistaken for a DID or an address. */
import { CarrierError } from '../base/index.ts'

const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const RESERVED_PREFIXES = ['did-', 'cr1', '#']

/**
 * Checks a name and gives its stored, lower-case form.
 *
 * @param what says in the message what was named: "friend label", "service name"
 * @throws CarrierError ERR_INVALID_ARGUMENT
 */
export function parseLabel (text: string, what: string): string {
  const shown = text.slice(0, 80)
  // before lower-casing: some letters outside ASCII turn into k or s
  if (!/^[\x21-\x7e]*$/.test(text)) throw invalid(shown, what, 'only a-z, 0-9 and - are allowed')
  const label = text.toLowerCase()
  const reserved = RESERVED_PREFIXES.find((prefix) => label.startsWith(prefix))
  if (reserved !== undefined) throw invalid(shown, what, `names that start with "${reserved}" are reserved`)
  if (label.length < 1 || label.length > 63) throw invalid(shown, what, 'it must have 1 to 63 characters')
  if (!DNS_LABEL.test(label)) throw invalid(shown, what, 'only a-z, 0-9 and - are allowed, and - neither first nor last')
  return label
}

function invalid (shown: string, what: string, reason: string): CarrierError {
  return new CarrierError('ERR_INVALID_ARGUMENT', `"${shown}" cannot be a ${what}: ${reason}`)
}
