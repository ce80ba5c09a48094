/** The certificate and key of a relay that takes WebSockets in TLS itself. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { CarrierError, errorMessage } from '../base/index.ts'
import type { BootstrapConfig } from './config.ts'

/**
 * Reads the files, in PEM; undefined when none are configured.
 *
 * @throws CarrierError ERR_CONFIG when they cannot be used, or are missing and an address asks for TLS
 */
export function readTls ({ tls, listen }: Pick<BootstrapConfig, 'tls' | 'listen'>): { cert: string, key: string } | undefined {
  const wanting = listen.find((text) => text.endsWith('/tls/ws'))
  if (tls === undefined) {
    if (wanting === undefined) return undefined
    throw new CarrierError('ERR_CONFIG', `"${wanting}" needs a certificate: name cert_file and key_file in [tls], or --tls-cert and --tls-key; or listen on /ws behind a TLS proxy`)
  }
  const files = { cert: readPem(tls.certificateFile), key: readPem(tls.keyFile) }
  try {
    createSecureContext(files)
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `the certificate ${tls.certificateFile} and the key ${tls.keyFile} cannot be used: ${errorMessage(err)}`, { cause: err })
  }
  return files
}

function readPem (path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `the TLS file ${path} cannot be read: ${errorMessage(err)}`, { cause: err })
  }
}
