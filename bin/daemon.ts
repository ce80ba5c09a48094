/** The daemon process: builds the engine from its settings, serves the control API, stops in good order. The only part of bin/ that loads libp2p. */
import { readFileSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { createLogger, LIMITS, systemClock } from '../src/base/index.ts'
import type { Logger } from '../src/base/index.ts'
import { createControlServer, mergeSettings, parseConfig } from '../src/control/server/index.ts'
import type { CarrierConfig, DaemonSettings, NetworkEnvironment, SettingFlags } from '../src/control/server/index.ts'
import { CarrierError, createCarrier, VERSION } from '../src/index.ts'
import type { Carrier } from '../src/index.ts'
import type { CarrierEnvironment } from './context.ts'
import { openDaemonLog } from './daemon-log.ts'
import { tuneGarbageCollector } from './garbage-collector.ts'
import { readUpstream } from './upstream-files.ts'

/** What `carrier up` passes on. Paths are absolute. */
export interface DaemonInit {
  dataDirectory: string
  flags: SettingFlags
  configFile: string | undefined
  environment: CarrierEnvironment
  /** Undefined: the log goes to stderr. */
  logFile: string | undefined
}

/** A daemon that answers on its control socket. */
export interface RunningDaemon {
  /** Resolves when it has stopped. */
  stopped: Promise<void>
}

/**
 * Starts the daemon in this process; it stops by `carrier down`, SIGTERM, SIGINT or SIGHUP.
 *
 * @throws CarrierError ERR_CONFIG, ERR_ALREADY_RUNNING, ERR_KEYSTORE, ERR_PASSPHRASE, ERR_DATABASE_CORRUPT, ERR_DATABASE_NEWER
 */
export async function startDaemon (init: DaemonInit): Promise<RunningDaemon> {
  tuneGarbageCollector()
  const { dataDirectory, configFile } = init
  const { CARRIER_RELAYS: relays, CARRIER_LISTEN: listen } = init.environment
  const network = networkEnvironment(init.environment)
  const settings = mergeSettings(init.flags, { ...(relays === undefined ? {} : { relays }), ...(listen === undefined ? {} : { listen }), network },
    configFile === undefined ? undefined : readConfig(configFile))
  const sink = init.logFile === undefined ? process.stderr : openDaemonLog(init.logFile)
  const log = createLogger('carrier:daemon', { level: settings.logLevel, sink })
  endOnFault(log)
  const stop = Promise.withResolvers<string>()
  watchSignals(log, stop.resolve)

  const carrier = await createCarrier({ dataDirectory, log, ...engineSettings(settings), ...(settings.network === undefined ? {} : { upstream: readUpstream(settings.network, log) }), ...readPassphrase(init.environment, log) })
  const server = createControlServer({ carrier, log, clock: systemClock }, {
    dataDirectory,
    fallbackDirectories: [process.env['XDG_RUNTIME_DIR'], tmpdir()].filter((path): path is string => path !== undefined && path !== ''),
    info: {
      pid: process.pid,
      version: VERSION,
      dataDirectory,
      startedAt: systemClock.now(),
      logFile: init.logFile,
      configFile,
      relays: settings.relays,
      listen: settings.listen,
      port: settings.port,
      keepalive: settings.keepalive ?? 'normal'
    },
    requestStop: () => { stop.resolve('carrier down') }
  })
  try {
    await carrier.start()
    await server.start()
  } catch (err) {
    await carrier.stop().catch((failure: unknown) => { log.warn('what had started could not be stopped in good order', { err: failure }) })
    throw err
  }
  log.info('carrier is up', { did: carrier.identity.did, version: VERSION, relays: settings.relays.length, listen: settings.listen })

  const stopped = stop.promise.then(async (reason) => {
    log.info('carrier stops', { reason })
    await shutDown(carrier, server, log)
    log.info('carrier stopped')
  })
  return { stopped }
}

/** Stops in good order, but not for ever: state is safe at any instant, so a part that hangs is left behind. */
async function shutDown (carrier: Carrier, server: { stop: () => Promise<void> }, log: Logger): Promise<void> {
  const deadline = systemClock.setTimer(() => {
    log.error('a part did not stop in time; ending without it', { waitedMs: LIMITS.controlStopMs })
    process.exit(1)
  }, LIMITS.controlStopMs)
  try {
    await server.stop()
  } finally {
    await carrier.stop()
  }
  deadline.cancel()
  // sockets of peers that do not answer must not hold a stopped daemon
  systemClock.setTimer(() => { process.exit() }, EXIT_GRACE_MS)
}

/** How long what is left of the event loop may take after everything was stopped. */
const EXIT_GRACE_MS = 1_000

function engineSettings (settings: DaemonSettings): Pick<DaemonSettings, 'relays' | 'listen' | 'port' | 'keepalive' | 'punch' | 'services' | 'forwards'> {
  const { relays, listen, port, keepalive, punch, services, forwards } = settings
  return { relays, listen, port, ...(keepalive === undefined ? {} : { keepalive }), ...(punch === undefined ? {} : { punch }), services, forwards }
}

/** What the environment says about proxies and certificates. */
export function networkEnvironment (environment: CarrierEnvironment): NetworkEnvironment {
  const systemProxy = environment.https_proxy ?? environment.HTTPS_PROXY ?? environment.all_proxy ?? environment.ALL_PROXY
  const noProxy = environment.no_proxy ?? environment.NO_PROXY
  return {
    ...(environment.CARRIER_PROXY === undefined ? {} : { proxy: environment.CARRIER_PROXY }),
    ...(environment.CARRIER_CA_FILE === undefined ? {} : { caFile: resolve(environment.CARRIER_CA_FILE) }),
    ...(systemProxy === undefined ? {} : { systemProxy }),
    ...(noProxy === undefined ? {} : { noProxy })
  }
}

/** Reads a carrier.toml. @throws CarrierError ERR_CONFIG */
export function readConfig (path: string): CarrierConfig {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `cannot read the configuration ${path}: ${err instanceof Error ? err.message : String(err)}`, { cause: err })
  }
  return parseConfig(text, path)
}

function readPassphrase (environment: CarrierEnvironment, log: Logger): { passphrase?: string } {
  const path = environment.CARRIER_PASSPHRASE_FILE
  if (path === undefined) return {}
  try {
    const text = readFileSync(path, 'utf8')
    if ((statSync(path).mode & 0o077) !== 0) log.warn('the passphrase file can be read by other accounts; close it with: chmod 600', { path })
    return { passphrase: text.replace(/\r?\n$/, '') }
  } catch (err) {
    throw new CarrierError('ERR_PASSPHRASE', `cannot read CARRIER_PASSPHRASE_FILE ${path}: ${err instanceof Error ? err.message : String(err)}`, { cause: err })
  }
}

function watchSignals (log: Logger, requestStop: (reason: string) => void): void {
  let hasAsked = false
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (hasAsked) {
        log.warn('second signal: ending at once', { signal })
        process.exit(1)
      }
      hasAsked = true
      requestStop(signal)
    })
  }
}

/** A fault of our own ends the process: going on in an unknown state would be worse, and state on disk is safe. */
function endOnFault (log: Logger): void {
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (err: unknown) => {
      log.error(`${event}: ending; start again with "carrier up", and please report this`, { err })
      process.exit(1)
    })
  }
}
