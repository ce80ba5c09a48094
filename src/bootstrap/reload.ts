/** Taking over a new configuration while the relay runs: all of it that can change, or nothing when it is wrong. */
import { errorMessage } from '../base/index.ts'
import type { Clock, Logger, Metrics } from '../base/index.ts'
import { readAdmission } from './admission-files.ts'
import { compareConfigs, compareFiles, mergeConfigs } from './config-change.ts'
import type { FileContents } from './config-change.ts'
import type { BootstrapConfig } from './config.ts'
import type { ReloadState } from './operator-views.ts'
import { readTls } from './tls-files.ts'

/** A configuration with everything that stands in files of its own. */
export interface LoadedConfig extends FileContents { config: BootstrapConfig }

/** What reloading uses. */
export interface ReloadComponents {
  clock: Clock
  log: Logger
  metrics: Metrics
  /** Reads the sources again; absent: they cannot change, only the files that they name. @throws CarrierError ERR_CONFIG */
  readConfig: (() => BootstrapConfig) | undefined
  /** Puts it into effect. */
  apply: (next: LoadedConfig) => Promise<void>
}

/** The way to the next configuration. */
export interface Reloader {
  /** Reads and applies. A wrong configuration is logged and given as refused, and the old one stays. Never rejects. */
  reload: () => Promise<ReloadState>
  /** The same with nothing but the certificate read anew. */
  renewTls: () => Promise<ReloadState>
  last: () => ReloadState | undefined
}

/** Reads what a configuration names. @throws CarrierError ERR_CONFIG */
export function loadConfig (config: BootstrapConfig): LoadedConfig {
  return { config, admission: readAdmission(config.admission), tls: readTls(config) }
}

/** Creates it around what the relay was started with. */
export function createReloader (components: ReloadComponents, init: LoadedConfig): Reloader {
  const { clock, log, metrics } = components
  let current = init
  let last: ReloadState | undefined
  let running: Promise<ReloadState> = Promise.resolve({ at: 0, result: 'ok', changed: [], needRestart: [] })
  let succeededAt = clock.now()
  const reloads = metrics.counter('carrier_relay_config_reloads_total', 'Reloads of the configuration by result.', ['result'])
  // an alert on the first refusal needs the number before it
  for (const result of ['ok', 'refused'] satisfies Array<ReloadState['result']>) reloads.add(0, { result })
  metrics.gauge('carrier_relay_config_last_success_seconds', 'When a configuration was last taken over, as epoch seconds.', [], () => Math.floor(succeededAt / 1000))

  async function reload (isTlsOnly: boolean): Promise<ReloadState> {
    const at = clock.now()
    try {
      const read = isTlsOnly ? current.config : components.readConfig?.() ?? current.config
      const { changed: differing, needRestart } = compareConfigs(current.config, read)
      const next = isTlsOnly ? { ...current, tls: readTls(current.config) } : loadConfig(mergeConfigs(current.config, read))
      const changed = [...new Set([...differing, ...compareFiles(current, next)])]
      await components.apply(next)
      current = next
      succeededAt = at
      log.info(isTlsOnly ? 'certificate read again' : 'configuration read again', { changed })
      if (needRestart.length > 0) log.warn('these settings differ too, but only a restart takes them over', { needRestart })
      return { at, result: 'ok', changed, needRestart }
    } catch (err) {
      log.error('the new configuration is refused; the old one stays', { reason: errorMessage(err) })
      return { at, result: 'refused', error: errorMessage(err), changed: [], needRestart: [] }
    }
  }

  async function queue (isTlsOnly: boolean): Promise<ReloadState> {
    // one after the other: the last one wins
    running = running.then(async () => reload(isTlsOnly))
    last = await running
    reloads.add(1, { result: last.result })
    return last
  }

  return {
    reload: async () => queue(false),
    renewTls: async () => queue(true),
    last: () => last
  }
}
