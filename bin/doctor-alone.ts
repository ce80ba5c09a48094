/** `carrier doctor` where no daemon answers: what can be seen of the data directory, the settings and the relays from here. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { multiaddr } from '@multiformats/multiaddr'
import { errorMessage, silentLogger, systemClock } from '../src/base/index.ts'
import type { DoctorCheck } from '../src/carrier-types.ts'
import { CONTROL_FILES } from '../src/control/client/index.ts'
import { checkConfigFile, mergeSettings } from '../src/control/server/index.ts'
import type { DaemonSettings } from '../src/control/server/index.ts'
import { checkDataDirectory, checkMachine, isDirectoryLocked, judgeClock, runJobs, toCheck } from '../src/explain/index.ts'
import type { Finding } from '../src/explain/index.ts'
import { judgeClock as judgeTime } from '../src/identity/index.ts'
import { createUpstream, describeProxy, explainRelayFailure, tcpTarget } from '../src/node/index.ts'
import { BUILD_DATE } from '../src/version.ts'
import type { CarrierEnvironment } from './context.ts'
import { networkEnvironment, readConfig } from './daemon.ts'
import { readUpstream } from './upstream-files.ts'

/** What the command knows. */
export interface AloneInit {
  dataDirectory: string
  /** Empty or ` --data-dir DIR`, for commands that are printed. */
  dataDirectoryFlag: string
  environment: CarrierEnvironment
  configFile: string | undefined
  /** Why the daemon could not be asked. */
  failure: { code: string, message: string }
}

/** Looks. Nothing is changed, and nothing that stays is written. */
export async function examineAlone (init: AloneInit): Promise<DoctorCheck[]> {
  const { dataDirectory } = init
  const [config, settings] = await readSettings(init)
  return runJobs(systemClock, [
    { name: 'daemon', run: () => [toCheck('daemon', judgeSilence(init))] },
    { name: 'config', run: () => config },
    { name: 'machine', run: checkMachine },
    { name: 'data directory', run: async () => checkDataDirectory(dataDirectory, systemClock) },
    { name: 'passphrase', run: () => checkPassphraseFile(init.environment) },
    { name: 'clock', run: () => [toCheck('clock', judgeClock(judgeTime({ nowMs: systemClock.now(), buildAt: BUILD_DATE, lastSeenAt: lastSeenAt(dataDirectory) }), 0))] },
    { name: 'relay', run: async (signal) => settings === undefined ? [] : checkRelays(settings, signal) }
  ])
}

/** No daemon is no fault; one that holds the directory and keeps silent is. */
function judgeSilence ({ dataDirectory, dataDirectoryFlag: flag, failure }: AloneInit): Finding {
  const restart = `carrier down${flag}, then carrier up${flag}`
  if (failure.code === 'ERR_NOT_RUNNING' && !isDirectoryLocked(dataDirectory)) {
    const left = existsSync(join(dataDirectory, CONTROL_FILES.socket)) ? '; one that was killed left its socket, which the next start replaces' : ''
    return { result: 'warn', text: `none runs here${left}`, advice: `start it: carrier up${flag}` }
  }
  if (failure.code === 'ERR_NOT_RUNNING' || failure.code === 'ERR_TIMEOUT') {
    const pid = readPid(join(dataDirectory, 'lock.pid'))
    return { result: 'fail', text: `${pid === undefined ? 'a process' : `process ${pid}`} holds the data directory and does not answer: it starts or stops just now, or it hangs`, advice: `look again in some seconds${pid === undefined ? '' : `; if it stays so: kill ${pid}`}` }
  }
  if (failure.code === 'ERR_NOT_FOUND' || failure.code === 'ERR_PROTOCOL') return { result: 'fail', text: `the daemon does not know this command: it has another version (${failure.message})`, advice: restart }
  return { result: 'fail', text: failure.message, advice: 'use the account that runs the daemon; its log is in the data directory' }
}

/** The settings that "carrier up" without flags would take; undefined when they are wrong. */
async function readSettings (init: AloneInit): Promise<[DoctorCheck[], DaemonSettings | undefined]> {
  const { environment, configFile } = init
  const file = await checkConfigFile(configFile)
  if (file.result === 'fail') return [[file], undefined]
  try {
    const { CARRIER_RELAYS: relays, CARRIER_LISTEN: listen } = environment
    const settings = mergeSettings({ relays: [] }, { ...(relays === undefined ? {} : { relays }), ...(listen === undefined ? {} : { listen }), network: networkEnvironment(environment) },
      configFile === undefined ? undefined : readConfig(configFile))
    return [[file], settings]
  } catch (err) {
    return [[file, toCheck('settings', { result: 'fail', text: errorMessage(err), advice: 'correct the environment variable' })], undefined]
  }
}

function checkPassphraseFile ({ CARRIER_PASSPHRASE_FILE: path }: CarrierEnvironment): DoctorCheck[] {
  if (path === undefined) return []
  const check = (finding: Finding): DoctorCheck[] => [toCheck('passphrase', finding)]
  try {
    readFileSync(path)
    if ((statSync(path).mode & 0o077) !== 0) return check({ result: 'warn', text: `${path} can be read by other accounts`, advice: `close it: chmod 600 ${path}` })
    return check({ result: 'ok', text: `${path} can be read` })
  } catch (err) {
    return check({ result: 'fail', text: `CARRIER_PASSPHRASE_FILE cannot be read: ${errorMessage(err)}`, advice: 'name the file that holds the passphrase' })
  }
}

/** Whether something takes connections at each relay's address; who it is, only a daemon can tell. */
async function checkRelays (settings: DaemonSettings, signal: AbortSignal): Promise<DoctorCheck[]> {
  const { relays, network } = settings
  const init = network === undefined ? {} : readUpstream(network, silentLogger)
  const proxy = toCheck('proxy', { result: 'ok', text: network?.proxy === undefined ? 'none' : `relays are reached through ${describeProxy(network.proxy)}` })
  if (relays.length === 0) {
    return [toCheck('relay', { result: 'warn', text: 'none in carrier.toml or CARRIER_RELAYS', advice: 'name one when you start: carrier up --relay MULTIADDR' }), proxy]
  }
  const upstream = createUpstream(systemClock, init)
  const found = await Promise.all(relays.map(async (address) => {
    const target = tcpTarget(multiaddr(address))
    if (target === undefined) return toCheck('relay', { result: 'ok', text: 'where it is, the daemon asks the name service' }, address)
    const startedMs = systemClock.monotonicMs()
    try {
      const socket = await upstream.open(target, AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS)]))
      socket.destroy()
      return toCheck('relay', { result: 'ok', text: `takes connections (${Math.round(systemClock.monotonicMs() - startedMs)} ms)` }, address)
    } catch (err) {
      signal.throwIfAborted()
      return toCheck('relay', { result: 'fail', text: explainRelayFailure(err).reason, advice: 'check the address and the network, or name another relay' }, address)
    }
  }))
  return [...found, proxy]
}

/** As long as a daemon gives one attempt. */
const CONNECT_MS = 4_000

/** When a daemon last ran here; 0 when that cannot be told. */
function lastSeenAt (dataDirectory: string): number {
  const path = join(dataDirectory, 'state.db')
  if (!existsSync(path)) return 0
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(path, { readOnly: true })
    return Number(database.prepare('SELECT last_seen_at FROM clock_state WHERE id = 1').get()?.['last_seen_at'] ?? 0)
  } catch {
    // what is wrong with the file is said by the check of the file
    return 0
  } finally {
    database?.close()
  }
}

function readPid (path: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(path, 'utf8'), 10)
    return pid > 0 ? pid : undefined
  } catch {
    // the sentence goes without it
    return undefined
  }
}
