/** The certificate and key of a relay that takes WebSockets in TLS itself. */
import { readFileSync, statSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { CarrierError, errorMessage } from '../base/index.ts'
import { placePrefix } from './config-place.ts'
import type { BootstrapConfig, TlsFiles } from './config.ts'

/**
 * Reads the files, in PEM; undefined when none are configured.
 *
 * @throws CarrierError ERR_CONFIG when they cannot be used, or are missing and an address asks for TLS
 */
export function readTls ({ tls, listen, listenWhere }: Pick<BootstrapConfig, 'tls' | 'listen' | 'listenWhere'>): { cert: string, key: string } | undefined {
  const wanting = listen.findIndex((text) => text.endsWith('/tls/ws'))
  if (tls === undefined) {
    if (wanting < 0) return undefined
    throw new CarrierError('ERR_CONFIG', `${placePrefix(listenWhere?.[wanting])}"${listen[wanting] ?? ''}" needs a certificate: name cert_file and key_file in [tls], or --tls-cert and --tls-key; or listen on /ws behind a TLS proxy`)
  }
  const { where } = tls
  const files = { cert: readPem(tls.certificateFile, where?.cert), key: readPem(tls.keyFile, where?.key) }
  try {
    createSecureContext(files)
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `${placePrefix(where?.cert)}the certificate ${tls.certificateFile} and the key ${tls.keyFile} cannot be used: ${errorMessage(err)}`, { cause: err })
  }
  return files
}

function readPem (path: string, where: string | undefined): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `${placePrefix(where)}the TLS file ${path} cannot be read: ${errorMessage(err)}`, { cause: err })
  }
}

/** What tells one state of the files from the next without reading them; undefined when one is missing at this moment. */
export function tlsFingerprint (tls: TlsFiles): string | undefined {
  try {
    return [tls.certificateFile, tls.keyFile].map((path) => {
      // of them only ctime tells that a file may be read now, or that its mtime was set back
      const { ctimeMs, mtimeMs, size, ino } = statSync(path)
      return `${ino}:${size}:${mtimeMs}:${ctimeMs}`
    }).join(' ')
  } catch {
    // it is being replaced: the next look finds it
    return undefined
  }
}
