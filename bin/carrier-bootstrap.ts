/** The operator's command: runs a bootstrap and relay node until it is told to stop. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { CarrierError, createLogger, errorCode, errorMessage, ERRORS } from '../src/base/index.ts'
import type { Logger } from '../src/base/index.ts'
import {
  composeConfig, createBootstrap, parseAnnounceAddress, parseAnnouncedPort, parseBootstrapConfig, parseHealthAddress, parseListenAddress,
  parseSpliceAddress
} from '../src/bootstrap/index.ts'
import type { Bootstrap, BootstrapConfig, BootstrapSettings } from '../src/bootstrap/index.ts'
import { VERSION } from '../src/version.ts'
import { tuneGarbageCollector } from './garbage-collector.ts'

const HELP = `carrier-bootstrap: a relay and DHT server for Carrier nodes

usage: carrier-bootstrap [--config FILE] [--data-dir DIR] [--listen MULTIADDR]... [--announce MULTIADDR]... [--health HOST:PORT]
                         [--splice HOST:PORT|off] [--announce-splice PORT] [--tls-cert FILE --tls-key FILE]

  --config FILE          TOML file; an example is deploy/carrier-bootstrap.toml
  --data-dir DIR         where the identity is kept (default ~/.carrier-bootstrap)
  --listen MULTIADDR     address to listen on, TCP or WebSocket; may be given several times
  --announce MULTIADDR   address that others shall use, when it differs from those; may be given several times
  --health HOST:PORT     listener for /healthz, /readyz and /metrics (default: a free port on 127.0.0.1)
  --splice HOST:PORT     where legs of splices are taken (default: the addresses of plain TCP, one port above), or off
  --announce-splice PORT splice port that others shall use, when it differs from that
  --tls-cert FILE        certificate with its chain (PEM), for addresses that end with /tls/ws
  --tls-key FILE         its key (PEM)
  --version, --help

Flags win over the environment (CARRIER_BOOTSTRAP_CONFIG, _DATA_DIR, _LISTEN, _ANNOUNCE with commas, _HEALTH,
_SPLICE, _ANNOUNCE_SPLICE, _TLS_CERT, _TLS_KEY; CARRIER_PASSPHRASE_FILE for a sealed identity), the environment wins over the file. The first line on stdout is JSON: {peerId, addresses, health, splice?}; logs go to
stderr. SIGTERM or SIGINT lets running circuits finish; a second one ends at once.
Exit codes: 0 stopped, 1 failed, 2 wrong usage or configuration.
`

/** Runs the command with the arguments after the program's name; sets the exit code. */
export async function main (argv: string[]): Promise<void> {
  tuneGarbageCollector()
  try {
    await run(argv)
  } catch (err) {
    process.stderr.write(`carrier-bootstrap: ${errorMessage(err)}\n`)
    process.exitCode = ERRORS[errorCode(err)].exit
  }
}

async function run (argv: string[]): Promise<void> {
  const flags = readFlags(argv)
  if (flags.help === true) {
    process.stdout.write(HELP)
    return
  }
  if (flags.version === true) {
    process.stdout.write(`${VERSION}\n`)
    return
  }
  const config = readConfig(flags, process.env)
  const log = createLogger('carrier:bootstrap', { level: config.logLevel, sink: process.stderr })
  const passphrase = readPassphrase(process.env['CARRIER_PASSPHRASE_FILE'])
  const bootstrap = await createBootstrap({ log }, { ...config, ...(passphrase === undefined ? {} : { passphrase }) })
  const stopRequested = watchSignals(log)
  await bootstrap.start()
  process.stdout.write(`${JSON.stringify({ peerId: bootstrap.peerId.toString(), addresses: bootstrap.addresses(), health: bootstrap.healthAddress(), splice: bootstrap.splicePort() })}\n`)
  await stopRequested
  await shutDown(bootstrap, log)
}

async function shutDown (bootstrap: Bootstrap, log: Logger): Promise<void> {
  log.info('draining: no new reservations and circuits; running circuits may finish')
  await bootstrap.drain()
  await bootstrap.stop()
  log.info('stopped')
}

/** Resolves on the first SIGTERM or SIGINT; the second one ends the process at once. */
async function watchSignals (log: Logger): Promise<void> {
  const { promise, resolve: stop } = Promise.withResolvers<void>()
  let count = 0
  function onSignal (): void {
    count++
    if (count === 1) {
      stop()
      return
    }
    log.warn('second signal: ending at once')
    process.exit(1)
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  await promise
}

type Flags = ReturnType<typeof readFlags>

function readFlags (argv: string[]) {
  try {
    const { values } = parseArgs({
      args: argv,
      allowPositionals: false,
      options: {
        config: { type: 'string' },
        'data-dir': { type: 'string' },
        listen: { type: 'string', multiple: true },
        announce: { type: 'string', multiple: true },
        health: { type: 'string' },
        splice: { type: 'string' },
        'announce-splice': { type: 'string' },
        'tls-cert': { type: 'string' },
        'tls-key': { type: 'string' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean' }
      }
    })
    return values
  } catch (err) {
    throw new CarrierError('ERR_INVALID_ARGUMENT', `${errorMessage(err)}; see carrier-bootstrap --help`, { cause: err })
  }
}

function readConfig (flags: Flags, environment: NodeJS.ProcessEnv): BootstrapConfig {
  const file = flags.config ?? environment['CARRIER_BOOTSTRAP_CONFIG']
  const fromFile = file === undefined ? {} : parseBootstrapConfig(readConfigFile(file), file)
  const fromEnvironment = toSettings({
    'data-dir': environment['CARRIER_BOOTSTRAP_DATA_DIR'],
    listen: environment['CARRIER_BOOTSTRAP_LISTEN']?.split(','),
    announce: environment['CARRIER_BOOTSTRAP_ANNOUNCE']?.split(','),
    health: environment['CARRIER_BOOTSTRAP_HEALTH'],
    splice: environment['CARRIER_BOOTSTRAP_SPLICE'],
    'announce-splice': environment['CARRIER_BOOTSTRAP_ANNOUNCE_SPLICE'],
    'tls-cert': environment['CARRIER_BOOTSTRAP_TLS_CERT'],
    'tls-key': environment['CARRIER_BOOTSTRAP_TLS_KEY']
  })
  return composeConfig(join(homedir(), '.carrier-bootstrap'), [fromFile, fromEnvironment, toSettings(flags)])
}

/** What flags and environment have in common. */
interface TextSettings {
  'data-dir'?: string | undefined
  listen?: string[] | undefined
  announce?: string[] | undefined
  health?: string | undefined
  splice?: string | undefined
  'announce-splice'?: string | undefined
  'tls-cert'?: string | undefined
  'tls-key'?: string | undefined
}

function toSettings (values: TextSettings): BootstrapSettings {
  return {
    ...(values['data-dir'] === undefined ? {} : { dataDirectory: resolve(values['data-dir']) }),
    ...(values.listen === undefined ? {} : { listen: values.listen.map(parseListenAddress) }),
    ...(values.announce === undefined ? {} : { announce: values.announce.map(parseAnnounceAddress) }),
    ...(values.health === undefined ? {} : { health: parseHealthAddress(values.health) }),
    ...(values.splice === undefined ? {} : { splice: parseSpliceAddress(values.splice) }),
    ...(values['announce-splice'] === undefined ? {} : { announceSplice: parseAnnouncedPort(values['announce-splice']) }),
    ...tlsOf(values)
  }
}

function tlsOf ({ 'tls-cert': certificateFile, 'tls-key': keyFile }: TextSettings): BootstrapSettings {
  if (certificateFile === undefined && keyFile === undefined) return {}
  if (certificateFile === undefined || keyFile === undefined) throw new CarrierError('ERR_CONFIG', 'a TLS certificate needs its key, and a key its certificate: give both --tls-cert and --tls-key')
  return { tls: { certificateFile, keyFile } }
}

function readConfigFile (file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `the configuration ${file} cannot be read: ${errorMessage(err)}`, { cause: err })
  }
}

function readPassphrase (file: string | undefined): string | undefined {
  if (file === undefined) return undefined
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '')
  } catch (err) {
    throw new CarrierError('ERR_PASSPHRASE', `the passphrase file ${file} cannot be read: ${errorMessage(err)}`, { cause: err })
  }
}

if (import.meta.main) await main(process.argv.slice(2))
