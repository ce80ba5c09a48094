/** What a daemon runs with: flags win over the environment, the environment over the file. Pure. */
import type { DeclaredForward, DeclaredService, ListenMode } from '../../carrier-types.ts'
import type { LogLevel } from '../../base/index.ts'
import { CarrierError, LIMITS } from '../../base/index.ts'
import { parseRelayAddress } from '../../node/index.ts'
import type { CarrierConfig } from './config.ts'
import { LISTEN_MODES } from './config.ts'

/** What the command line said. */
export interface SettingFlags { relays: string[], listen?: string, port?: number }

/** What the environment said, as it stands there. */
export interface SettingEnvironment { relays?: string, listen?: string }

/** The outcome. */
export interface DaemonSettings {
  relays: string[]
  listen: ListenMode
  port: number
  logLevel: LogLevel
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
  return {
    relays: [...new Set(relays)],
    listen,
    port: flags.port ?? file?.port ?? 0,
    logLevel: file?.logLevel ?? 'info',
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

function checkListen (text: string, source: string): ListenMode {
  const mode = LISTEN_MODES.find((item) => item === text)
  if (mode === undefined) throw new CarrierError('ERR_CONFIG', `${source}: "${text.slice(0, 80)}" is not one of ${LISTEN_MODES.join(', ')}`)
  return mode
}
