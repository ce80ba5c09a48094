/** What a new configuration changes while a relay runs, and what it cannot change. Pure. */
import type { AdmissionPolicy } from './admission-lists.ts'
import type { BootstrapConfig } from './config.ts'
import type { TlsPair } from './host.ts'

/** Names of settings, as they stand in the file. */
export interface ConfigChange {
  /** In effect from now on. */
  changed: string[]
  /** Differ too, but only a restart takes them over. */
  needRestart: string[]
}

/** What stands in files that a configuration names. */
export interface FileContents { admission: AdmissionPolicy, tls: TlsPair | undefined }

/** Compares two configurations; what stands in files that they name is for {@link compareFiles}. */
export function compareConfigs (old: BootstrapConfig, next: BootstrapConfig): ConfigChange {
  const differing = (Object.keys(SETTING_NAMES) as Setting[]).filter((key) => stable(old[key]) !== stable(next[key]))
  return {
    changed: differing.filter((key) => !FIXED.has(key)).map((key) => SETTING_NAMES[key]),
    needRestart: differing.filter((key) => FIXED.has(key)).map((key) => SETTING_NAMES[key])
  }
}

/** Names of the settings whose files have another content, also under an unchanged name. */
export function compareFiles (old: FileContents, next: FileContents): string[] {
  return [
    ...stable(old.admission) === stable(next.admission) ? [] : [SETTING_NAMES.admission],
    ...old.tls?.cert === next.tls?.cert && old.tls?.key === next.tls?.key ? [] : [SETTING_NAMES.tls]
  ]
}

/** The new configuration with everything that cannot change kept. */
export function mergeConfigs (old: BootstrapConfig, next: BootstrapConfig): BootstrapConfig {
  const listenWhere = stable(old.listen) === stable(next.listen) ? next.listenWhere : undefined
  return { ...next, ...Object.fromEntries([...FIXED].map((key) => [key, old[key]])), listenWhere }
}

/** In which line something stands is none. */
type Setting = Exclude<keyof BootstrapConfig, 'listenWhere'>

const SETTING_NAMES: Record<Setting, string> = {
  dataDirectory: 'data_dir',
  listen: 'listen',
  announce: 'announce',
  peers: 'peers',
  health: 'health',
  logLevel: 'log_level',
  maxConnections: 'max_connections',
  connections: 'connections',
  admission: 'admission',
  quotas: 'quotas',
  drainMs: 'drain_seconds',
  circuitLimits: 'relay.circuit_…',
  relay: 'relay.max_…',
  tls: 'tls',
  splice: 'splice',
  announceSplice: 'announce_splice',
  spliceCopy: 'relay.splice_copy',
  spliceBytesPerSecond: 'relay.splice_bytes_per_second'
}

/** Bound sockets, and the place of the identity. */
const FIXED: ReadonlySet<Setting> = new Set(['dataDirectory', 'listen', 'health', 'splice', 'spliceCopy'])

/** The line of something is no setting, and `places` repeats what stands in `relay`. */
function stable (value: unknown): string {
  return JSON.stringify(value, (key, item: unknown) => key === 'where' || key === 'places' ? undefined : item instanceof Set ? [...item].toSorted() : typeof item === 'bigint' ? `${item}n` : item) ?? ''
}
