/** Names of services, and `WHO/SERVICE`. */
import { CarrierError } from '../base/index.ts'
import { parseLabel } from '../identity/index.ts'

/** Words after `carrier forward`. */
const RESERVED = new Set(['list', 'close'])

/**
 * Checks the name of a service and gives its stored, lower-case form.
 *
 * @throws CarrierError ERR_INVALID_ARGUMENT
 */
export function parseServiceName (text: string): string {
  const name = parseLabel(text, 'service name')
  if (RESERVED.has(name)) throw new CarrierError('ERR_INVALID_ARGUMENT', `"${name}" cannot be a service name: it is a word of the command line; choose another name`)
  return name
}

/** A friend, as people name them, and one of their services. */
export interface ServiceReference { who: string, service: string }

/**
 * Splits `WHO/SERVICE` at the last slash.
 *
 * @throws CarrierError ERR_INVALID_ARGUMENT
 */
export function parseServiceReference (text: string): ServiceReference {
  const slash = text.lastIndexOf('/')
  if (slash < 1) throw new CarrierError('ERR_INVALID_ARGUMENT', `"${text.slice(0, 120)}" does not name a service of a friend: write WHO/SERVICE, as in office/postgres`)
  return { who: text.slice(0, slash), service: parseServiceName(text.slice(slash + 1)) }
}
