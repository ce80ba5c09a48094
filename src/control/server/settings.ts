/** What a daemon runs with: flags win over the environment, the environment over the file. Pure. */
import type { DeclaredForward, DeclaredService, ListenMode } from '../../carrier-types.ts'
import type { KeepaliveMode, LogLevel } from '../../base/index.ts'
import { CarrierError, KEEPALIVE_MODES, LIMITS } from '../../base/index.ts'
import { parseRelayAddress } from '../../node/index.ts'
import type { CarrierConfig } from './config.ts'
import { LISTEN_MODES } from './config.ts'
import { mergeNetwork } from './network-settings.ts'
import type { NetworkEnvironment, NetworkSettings } from './network-settings.ts'

/** What the command line said. */
export interface SettingFlags { relays: string[], listen?: string, port?: number, keepalive?: string }

/** What the environment said, as it stands there. */
export interface SettingEnvironment { relays?: string, listen?: string, network?: NetworkEnvironment }

/** The outcome. */
export interface DaemonSettings {
  relays: string[]
  listen: ListenMode
  port: number
  /** The engine's default when absent. */
  keepalive?: KeepaliveMode
  /** Absent: friends may punch. */
  punch?: boolean
  logLevel: LogLevel
  /** Absent: everything is dialled directly, and the usual certificates are trusted. */
  network?: NetworkSettings
  services: DeclaredService[]
  forwards: DeclaredForward[]
}

/** Joins the three sources. @throws CarrierError ERR_CONFIG naming the source of what is wrong */
export function mergeSettings (flags: SettingFlags, environment: SettingEnvironment, file: CarrierConfig | undefined): DaemonSettings {
  const fromEnvironment = environment.relays?.split(/[\s,]+/).filter((item) => item !== '')
  const relays = flags.relays.length > 0
    ? checkRelays(flags.relays, '--relay')
    : fromEnvironment !== undefined && fromEnvironment.length > 0
      ? checkRelays(fromEnvironment, 'CARRIER_RELAYS')
      : file?.relays ?? []
  const listen = flags.listen !== undefined
    ? checkListen(flags.listen, '--listen')
    : environment.listen !== undefined && environment.listen !== ''
      ? checkListen(environment.listen, 'CARRIER_LISTEN')
      : file?.listen ?? 'none'
  const keepalive = flags.keepalive === undefined ? file?.keepalive : checkKeepalive(flags.keepalive)
  const network = mergeNetwork(environment.network ?? {}, file?.network)
  return {
    relays: [...new Set(relays)],
    listen,
    port: flags.port ?? file?.port ?? 0,
    ...(keepalive === undefined ? {} : { keepalive }),
    ...(file?.punch === undefined ? {} : { punch: file.punch }),
    logLevel: file?.logLevel ?? 'info',
    ...(network === undefined ? {} : { network }),
    services: file?.services ?? [],
    forwards: file?.forwards ?? []
  }
}

function checkRelays (relays: readonly string[], source: string): string[] {
  if (relays.length > LIMITS.relayCount) throw new CarrierError('ERR_CONFIG', `${source}: at most ${LIMITS.relayCount} relays`)
  return relays.map((relay) => {
    try {
      return parseRelayAddress(relay).text
    } catch (err) {
      throw new CarrierError('ERR_CONFIG', `${source}: ${err instanceof Error ? err.message : String(err)}`, { cause: err })
    }
  })
}

function checkKeepalive (text: string): KeepaliveMode {
  const mode = KEEPALIVE_MODES.find((item) => item === text)
  if (mode === undefined) throw new CarrierError('ERR_CONFIG', `--keepalive: "${text.slice(0, 80)}" is not one of ${KEEPALIVE_MODES.join(', ')}`)
  return mode
}

function checkListen (text: string, source: string): ListenMode {
  const mode = LISTEN_MODES.find((item) => item === text)
  if (mode === undefined) throw new CarrierError('ERR_CONFIG', `${source}: "${text.slice(0, 80)}" is not one of ${LISTEN_MODES.join(', ')}`)
  return mode
}
