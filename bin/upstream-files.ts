/** Reads the files that say how the outside is reached: credentials of a proxy, certificates of a private authority. */
import { readFileSync, statSync } from 'node:fs'
import { CarrierError, errorMessage } from '../src/base/index.ts'
import type { Logger } from '../src/base/index.ts'
import type { NetworkSettings } from '../src/control/server/index.ts'
import { describeProxy, parseProxyCredentials, withCredentials } from '../src/node/index.ts'
import type { UpstreamInit } from '../src/node/index.ts'

/** What the engine is given. @throws CarrierError ERR_CONFIG when a file cannot be read or used */
export function readUpstream ({ proxy, proxyCredentialsFile, caFile }: NetworkSettings, log: Logger): UpstreamInit {
  if (proxy !== undefined) log.info('relays are reached through a proxy', { proxy: describeProxy(proxy) })
  const withSecret = proxy === undefined || proxyCredentialsFile === undefined
    ? proxy
    : withCredentials(proxy, parseProxyCredentials(readSecret(proxyCredentialsFile, log)))
  return {
    ...(withSecret === undefined ? {} : { proxy: withSecret }),
    ...(caFile === undefined ? {} : { extraCertificates: readText(caFile) })
  }
}

function readSecret (path: string, log: Logger): string {
  const text = readText(path)
  if ((statSync(path).mode & 0o077) !== 0) log.warn('the file of proxy credentials can be read by other accounts; close it with: chmod 600', { path })
  return text
}

function readText (path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `cannot read ${path}, which [network] of carrier.toml or CARRIER_CA_FILE names: ${errorMessage(err)}`, { cause: err })
  }
}
