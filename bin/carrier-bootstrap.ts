/** The operator's command: runs a bootstrap and relay node until it is told to stop. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { CarrierError, createLogger, errorCode, errorMessage, ERRORS } from '../src/base/index.ts'
import type { Logger } from '../src/base/index.ts'
import type * as engineTypes from '../src/bootstrap/index.ts'
import type { Bootstrap, BootstrapConfig, BootstrapSettings } from '../src/bootstrap/index.ts'
import { VERSION } from '../src/version.ts'
import { tuneGarbageCollector } from './garbage-collector.ts'
import { runOperatorCommand } from './relay-operator.ts'

const HELP = `carrier-bootstrap: a relay and DHT server for Carrier nodes

usage: carrier-bootstrap [--config FILE] [--data-dir DIR] [--listen MULTIADDR]... [--announce MULTIADDR]... [--health HOST:PORT]
                         [--splice HOST:PORT|off] [--announce-splice PORT] [--tls-cert FILE --tls-key FILE]
       carrier-bootstrap check [CONFIG]            tells what is wrong with a configuration and the files that it names, and where
       carrier-bootstrap status|peers|reload|drain [--config FILE] [--data-dir DIR] [--json]   speaks to a running relay

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

  status                 how full it is, what it announces, how the last reload went
  peers [--full]         who uses how much; with --full whole PeerIds and source addresses
  reload                 reads the configuration again, as SIGHUP does
  drain [--no-wait]      devices move to other relays, running circuits may finish, then it stops, as on SIGTERM

Flags win over the environment (CARRIER_BOOTSTRAP_CONFIG, _DATA_DIR, _LISTEN, _ANNOUNCE with commas, _HEALTH,
_SPLICE, _ANNOUNCE_SPLICE, _TLS_CERT, _TLS_KEY; CARRIER_PASSPHRASE_FILE for a sealed identity), the environment wins over the file. The first line on stdout is JSON: {peerId, addresses, health, splice?}; logs go to
stderr. SIGTERM or SIGINT lets running circuits finish; a second one ends at once. SIGHUP reads the configuration again.
Exit codes: 0 stopped or done, 1 failed, 2 wrong usage or configuration.
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

/** Loaded only where it is needed: it takes half a second. */
type Engine = typeof engineTypes

async function run (argv: string[]): Promise<void> {
  const { values: flags, positionals: [command, ...rest] } = readFlags(argv)
  if (flags.help === true) {
    process.stdout.write(HELP)
    return
  }
  if (flags.version === true) {
    process.stdout.write(`${VERSION}\n`)
    return
  }
  const [unexpected] = command === 'check' && flags.config === undefined ? rest.slice(1) : rest
  if (unexpected !== undefined) throw new CarrierError('ERR_INVALID_ARGUMENT', `"${unexpected}" is too much; see carrier-bootstrap --help`)
  switch (command) {
    case undefined: await serve(flags); return
    case 'check': {
      const given = rest[0] === undefined ? flags : { ...flags, config: rest[0] }
      const file = given.config ?? process.env['CARRIER_BOOTSTRAP_CONFIG']
      if (file === undefined) throw new CarrierError('ERR_INVALID_ARGUMENT', 'which file? carrier-bootstrap check CONFIG')
      check(await loadEngine(), given, file)
      return
    }
    case 'status':
    case 'peers':
    case 'reload':
    case 'drain': {
      // with --data-dir a configuration that is wrong at this moment does not matter
      const dataDirectory = flags['data-dir'] === undefined ? readConfig(await loadEngine(), flags, process.env).dataDirectory : resolve(flags['data-dir'])
      await runOperatorCommand(command, { dataDirectory, isJson: flags.json === true, isFull: flags.full === true, isWaiting: flags['no-wait'] !== true })
      return
    }
    default: throw new CarrierError('ERR_INVALID_ARGUMENT', `there is no command "${command}"; see carrier-bootstrap --help`)
  }
}

async function loadEngine (): Promise<Engine> {
  return import('../src/bootstrap/index.ts')
}

/** Says whether a relay would start with this configuration, apart from its ports and its key. */
function check (engine: Engine, flags: Flags, file: string): void {
  const config = readConfig(engine, flags, process.env)
  const { admission } = engine.loadConfig(config)
  if (flags.json === true) process.stdout.write(`${JSON.stringify({ file, isOk: true })}\n`)
  else process.stdout.write(`${file}: ok; it serves ${admission.mode === 'open' ? 'everybody' : `${admission.mode} only`}, listens on ${config.listen.join(', ')}\n`)
}

async function serve (flags: Flags): Promise<void> {
  // first of all: unheard the signal ends the process, and a service manager may reload while it starts
  let isReloadDue = false
  let reload = (): void => { isReloadDue = true }
  process.on('SIGHUP', () => { reload() })
  const engine = await loadEngine()
  const readAgain = (): BootstrapConfig => readConfig(engine, flags, process.env)
  const config = readAgain()
  const { log, setLevel } = engine.createSwitchLogger((level) => createLogger('carrier:bootstrap', { level, sink: process.stderr }), config.logLevel)
  const passphrase = readPassphrase(process.env['CARRIER_PASSPHRASE_FILE'])
  const asked = Promise.withResolvers<void>()
  const bootstrap = await engine.createBootstrap({ log, version: VERSION, readConfig: readAgain, setLogLevel: setLevel, onDrainAsked: asked.resolve }, { ...config, ...(passphrase === undefined ? {} : { passphrase }) })
  const stopRequested = watchSignals(log, asked.promise)
  await bootstrap.start()
  reload = () => { void bootstrap.reload() }
  if (isReloadDue) reload()
  process.stdout.write(`${JSON.stringify({ peerId: bootstrap.peerId.toString(), addresses: bootstrap.addresses(), health: bootstrap.healthAddress(), splice: bootstrap.splicePort() })}\n`)
  await stopRequested
  await shutDown(bootstrap, log)
}

async function shutDown (bootstrap: Bootstrap, log: Logger): Promise<void> {
  log.info('draining: devices are told to move; no new reservations and circuits; running circuits may finish')
  await bootstrap.drain()
  await bootstrap.stop()
  log.info('stopped')
  // sockets of peers that do not answer must not hold a stopped relay
  setTimeout(() => { process.exit() }, EXIT_GRACE_MS).unref()
}

/** From the stop of everything to the end of the process, however much is still open. */
const EXIT_GRACE_MS = 1_000

/** Resolves on the first SIGTERM or SIGINT, or when the operator asked; a signal after that ends the process at once. */
async function watchSignals (log: Logger, asked: Promise<void>): Promise<void> {
  const { promise, resolve: stop } = Promise.withResolvers<void>()
  let isStopping = false
  function onStop (): void {
    isStopping = true
    stop()
  }
  function onSignal (): void {
    if (!isStopping) {
      onStop()
      return
    }
    log.warn('second signal: ending at once')
    process.exit(1)
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  void asked.then(onStop)
  await promise
}

type Flags = ReturnType<typeof readFlags>['values']

function readFlags (argv: string[]) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
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
        json: { type: 'boolean' },
        full: { type: 'boolean' },
        'no-wait': { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean' }
      }
    })
  } catch (err) {
    throw new CarrierError('ERR_INVALID_ARGUMENT', `${errorMessage(err)}; see carrier-bootstrap --help`, { cause: err })
  }
}

function readConfig (engine: Engine, flags: Flags, environment: NodeJS.ProcessEnv): BootstrapConfig {
  const file = flags.config ?? environment['CARRIER_BOOTSTRAP_CONFIG']
  const fromFile = file === undefined ? {} : engine.parseBootstrapConfig(readConfigFile(file), file)
  const fromEnvironment = toSettings(engine, {
    'data-dir': environment['CARRIER_BOOTSTRAP_DATA_DIR'],
    listen: environment['CARRIER_BOOTSTRAP_LISTEN']?.split(','),
    announce: environment['CARRIER_BOOTSTRAP_ANNOUNCE']?.split(','),
    health: environment['CARRIER_BOOTSTRAP_HEALTH'],
    splice: environment['CARRIER_BOOTSTRAP_SPLICE'],
    'announce-splice': environment['CARRIER_BOOTSTRAP_ANNOUNCE_SPLICE'],
    'tls-cert': environment['CARRIER_BOOTSTRAP_TLS_CERT'],
    'tls-key': environment['CARRIER_BOOTSTRAP_TLS_KEY']
  })
  return engine.composeConfig(join(homedir(), '.carrier-bootstrap'), [fromFile, fromEnvironment, toSettings(engine, flags)])
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

function toSettings (engine: Engine, values: TextSettings): BootstrapSettings {
  return {
    ...(values['data-dir'] === undefined ? {} : { dataDirectory: resolve(values['data-dir']) }),
    ...(values.listen === undefined ? {} : { listen: values.listen.map(engine.parseListenAddress) }),
    ...(values.announce === undefined ? {} : { announce: values.announce.map(engine.parseAnnounceAddress) }),
    ...(values.health === undefined ? {} : { health: engine.parseHealthAddress(values.health) }),
    ...(values.splice === undefined ? {} : { splice: engine.parseSpliceAddress(values.splice) }),
    ...(values['announce-splice'] === undefined ? {} : { announceSplice: engine.parseAnnouncedPort(values['announce-splice']) }),
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
