/** How a daemon reaches the outside: [network] of carrier.toml, and what the environment says about proxies. Pure. */
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { CarrierError, LIMITS, errorMessage } from '../../base/index.ts'
import { parseProxyUrl } from '../../node/index.ts'
import type { UpstreamProxy } from '../../node/index.ts'

/** What [network] says. */
export interface NetworkConfig {
  /** A URL, or `off`. */
  proxy?: string
  /** Absolute paths. */
  proxyCredentialsFile?: string
  caFile?: string
  exceptions?: string[]
}

/** What the environment says, as it stands there. */
export interface NetworkEnvironment {
  /** CARRIER_PROXY. */
  proxy?: string
  /** CARRIER_CA_FILE. */
  caFile?: string
  /** The proxy for all programs: HTTPS_PROXY, else ALL_PROXY. */
  systemProxy?: string
  /** NO_PROXY. */
  noProxy?: string
}

/** The outcome; files are not read yet. */
export interface NetworkSettings {
  proxy?: UpstreamProxy
  proxyCredentialsFile?: string
  caFile?: string
}

/** Says that there is no proxy, whatever the environment says. */
const OFF = 'off'

const Proxy = z.string().superRefine((text, context) => {
  try {
    if (text !== OFF) parseProxyUrl(text)
  } catch (err) {
    context.addIssue({ code: 'custom', message: errorMessage(err) })
  }
})

/** The table in the file. */
export const NetworkShape = z.strictObject({
  proxy: Proxy.optional(),
  proxy_credentials_file: z.string().min(1).max(4096).optional(),
  no_proxy: z.array(z.string().min(1).max(256)).max(LIMITS.proxyExceptionCount, `at most ${LIMITS.proxyExceptionCount} entries`).optional(),
  ca_file: z.string().min(1).max(4096).optional()
})

/** What was read, with paths that are relative to the file made absolute. */
export function toNetworkConfig (table: z.output<typeof NetworkShape>, file: string): NetworkConfig {
  const { proxy, proxy_credentials_file: credentials, no_proxy: exceptions, ca_file: caFile } = table
  return {
    ...(proxy === undefined ? {} : { proxy }),
    ...(credentials === undefined ? {} : { proxyCredentialsFile: resolve(dirname(file), credentials) }),
    ...(exceptions === undefined ? {} : { exceptions }),
    ...(caFile === undefined ? {} : { caFile: resolve(dirname(file), caFile) })
  }
}

/**
 * Joins the sources: CARRIER_PROXY wins over the file, both over the proxy of all programs. That one is not used for this
 * machine itself. Undefined when nothing was said.
 *
 * @throws CarrierError ERR_CONFIG naming the source of what is wrong
 */
export function mergeNetwork (environment: NetworkEnvironment, file: NetworkConfig | undefined): NetworkSettings | undefined {
  const exceptions = file?.exceptions ?? environment.noProxy?.split(/[\s,]+/).filter((entry) => entry !== '') ?? []
  const ours = environment.proxy ?? file?.proxy
  const text = ours ?? environment.systemProxy
  const source = environment.proxy !== undefined ? 'CARRIER_PROXY' : file?.proxy !== undefined ? '[network] proxy' : 'HTTPS_PROXY or ALL_PROXY (CARRIER_PROXY=off does without)'
  const caFile = environment.caFile ?? file?.caFile
  const proxy = text === undefined || text === OFF ? undefined : parseFrom(source, text, { exceptions, skipsLoopback: ours === undefined })
  const settings = {
    ...(proxy === undefined ? {} : { proxy }),
    // the file's credentials are for a proxy that was chosen for Carrier
    ...(proxy === undefined || ours === undefined || file?.proxyCredentialsFile === undefined ? {} : { proxyCredentialsFile: file.proxyCredentialsFile }),
    ...(caFile === undefined ? {} : { caFile })
  }
  return Object.keys(settings).length === 0 ? undefined : settings
}

function parseFrom (source: string, text: string, options: { exceptions: readonly string[], skipsLoopback: boolean }): UpstreamProxy {
  try {
    return parseProxyUrl(text, options)
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `${source}: ${errorMessage(err)}`, { cause: err })
  }
}
