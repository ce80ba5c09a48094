/** `carrier up`: starts the daemon, in the background or here. The only command that loads the engine, and only in the daemon's process. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { InvalidArgumentError, Option } from 'commander'
import { ensurePrivateDirectory, errorMessage } from '../../src/base/light.ts'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { CarrierError, errorCode } from '../../src/control/client/index.ts'
import type { CommandContext } from '../context.ts'
import { openContext } from '../context.ts'
import { LOG_FILE_NAME } from '../daemon-log.ts'
import { reportStart, startDetached } from '../detach.ts'
import { safeText } from '../output.ts'

/** The settings that a daemon reads when none are named. */
const CONFIG_FILE_NAME = 'carrier.toml'

/** What may lie in a data directory before and after the first start. */
const DATA_FILES: readonly string[] = ['identity.key', CONFIG_FILE_NAME, LOG_FILE_NAME, 'lock.db']

interface UpOptions { foreground?: true, relay?: string[], listen?: string, port?: number, keepalive?: string, config?: string, detached?: true }

/** Adds the command. */
export function addUpCommand (program: Command): void {
  program.command('up').description('start the daemon; the first start makes your identity')
    .option('--foreground', 'stay in the foreground and log to stderr (for systemd and containers)')
    .option('--relay <multiaddr>', 'a relay to be reached through, with its /p2p/ part (repeatable)', collect)
    .addOption(new Option('--listen <mode>', 'where to listen besides the relays').choices(['none', 'lan', 'mapped', 'public']))
    .option('--port <n>', 'port for --listen other than none; 0 picks one', parsePort)
    .addOption(new Option('--keepalive <mode>', 'how soon a lost link is noticed, against how often the machine wakes (default: normal)').choices(['fast', 'normal', 'saver']))
    .option('--config <file>', 'settings in TOML (default: $CARRIER_CONFIG, or carrier.toml in the data directory if there is one)')
    .addOption(new Option('--detached', 'used by "carrier up" itself').hideHelp())
    .action(async (options: UpOptions, command: Command) => {
      const context = openContext(command)
      if (options.foreground === true || options.detached === true) await runHere(context, options)
      else await runDetached(context, options)
    })
}

async function runHere (context: CommandContext, options: UpOptions): Promise<void> {
  const { dataDirectory, environment } = context
  try {
    if (options.detached !== true) await prepareDataDirectory(dataDirectory)
    const { startDaemon } = await import('../daemon.ts')
    const { stopped } = await startDaemon({
      dataDirectory,
      flags: { relays: options.relay ?? [], ...(options.listen === undefined ? {} : { listen: options.listen }), ...(options.port === undefined ? {} : { port: options.port }), ...(options.keepalive === undefined ? {} : { keepalive: options.keepalive }) },
      configFile: configFileOf(context, options),
      environment,
      logFile: options.detached === true ? join(dataDirectory, LOG_FILE_NAME) : undefined
    })
    if (options.detached === true) await reportStart({ kind: 'ready' })
    else await printUp(context, false)
    await stopped
  } catch (err) {
    if (options.detached === true) await reportStart({ kind: 'failed', code: errorCode(err), message: errorMessage(err) })
    throw err
  }
}

async function runDetached (context: CommandContext, options: UpOptions): Promise<void> {
  const running = await runningDaemon(context)
  if (running !== undefined) {
    const differences = differingFlags(options, running)
    if (differences.length > 0) {
      throw new CarrierError('ERR_ALREADY_RUNNING', `carrier is already up (pid ${running.pid}) with other settings: ${differences.join(', ')}; to change them: carrier down${context.dataDirectoryFlag}, then carrier up again`)
    }
    await printUp(context, true)
    return
  }
  await prepareDataDirectory(context.dataDirectory)
  await startDetached({
    args: ['up', '--detached', '--data-dir', context.dataDirectory,
      ...(options.relay ?? []).flatMap((relay) => ['--relay', relay]),
      ...(options.listen === undefined ? [] : ['--listen', options.listen]),
      ...(options.port === undefined ? [] : ['--port', String(options.port)]),
      ...(options.keepalive === undefined ? [] : ['--keepalive', options.keepalive]),
      ...(options.config === undefined ? [] : ['--config', resolve(options.config)])],
    environment: { ...process.env, ...absolutePaths(context) },
    logFile: join(context.dataDirectory, LOG_FILE_NAME)
  })
  await printUp(context, false)
}

/** Makes it, or closes it to others; but never somebody else's directory that was named by mistake. */
async function prepareDataDirectory (directory: string): Promise<void> {
  const names = await readdir(directory).catch((err: unknown) => {
    if (err instanceof Error && 'code' in err && err.code === 'ENOENT') return []
    throw new CarrierError('ERR_INVALID_ARGUMENT', `cannot use the data directory ${directory}: ${errorMessage(err)}`, { cause: err })
  })
  if (names.length > 0 && !names.some((name) => DATA_FILES.includes(name))) {
    throw new CarrierError('ERR_INVALID_ARGUMENT', `${directory} holds other files and no Carrier data; give Carrier a directory of its own with --data-dir`)
  }
  await ensurePrivateDirectory(directory).catch((err: unknown) => {
    throw new CarrierError('ERR_INVALID_ARGUMENT', `cannot use the data directory ${directory}: ${errorMessage(err)}`, { cause: err })
  })
}

async function runningDaemon (context: CommandContext): Promise<MethodOutput<'daemon.info'> | undefined> {
  try {
    return await context.client.call('daemon.info', {})
  } catch (err) {
    if (errorCode(err) === 'ERR_NOT_RUNNING') return undefined
    throw err
  }
}

/** Flags that were given and that the running daemon does not follow. */
function differingFlags (options: UpOptions, running: MethodOutput<'daemon.info'>): string[] {
  const differences: string[] = []
  if (options.relay !== undefined && [...new Set(options.relay)].sort().join(' ') !== [...running.relays].sort().join(' ')) differences.push(`relays ${running.relays.join(' ') || 'none'}`)
  if (options.listen !== undefined && options.listen !== running.listen) differences.push(`listen ${running.listen}`)
  if (options.port !== undefined && options.port !== running.port) differences.push(`port ${running.port}`)
  if (options.keepalive !== undefined && options.keepalive !== running.keepalive) differences.push(`keepalive ${running.keepalive ?? 'normal'}`)
  if (options.config !== undefined && resolve(options.config) !== running.configFile) differences.push(`config ${running.configFile ?? 'none'}`)
  return differences
}

async function printUp (context: CommandContext, isAlreadyRunning: boolean): Promise<void> {
  const [info, id, status] = await Promise.all([
    context.client.call('daemon.info', {}), context.client.call('identity.show', {}), context.client.call('daemon.status', {})])
  const relays = status.relays.length === 0
    ? `none: friends cannot reach this machine; choose one: carrier down${context.dataDirectoryFlag} && carrier up${context.dataDirectoryFlag} --relay MULTIADDR`
    : status.relays.map(({ address, state }) => `${safeText(address)} (${state})`).join('\n         ')
  const log = info.logFile === undefined ? [] : [`log      ${info.logFile}`]
  context.print('up', { did: id.did, peerId: id.peerId, address: id.address, pid: info.pid, relays: status.relays, log: info.logFile, isAlreadyRunning }, [
    isAlreadyRunning ? `Carrier is already up (pid ${info.pid}).` : `Carrier is up (pid ${info.pid}). Nobody can reach this machine's services until you say so.`,
    `did      ${id.did}`,
    `address  ${id.address ?? 'none: all are revoked; make one: carrier address new'}`,
    `relays   ${relays}`,
    ...log,
    ...(info.logFile === undefined ? [] : [`stop     carrier down${context.dataDirectoryFlag}`])
  ].join('\n'))
}

/** The daemon shall find the same files whatever its working directory is. */
function absolutePaths ({ environment }: CommandContext): Record<string, string> {
  return Object.fromEntries((['CARRIER_CONFIG', 'CARRIER_CA_FILE', 'CARRIER_PASSPHRASE_FILE'] as const).flatMap((name) => {
    const path = environment[name]
    return path === undefined ? [] : [[name, resolve(path)]]
  }))
}

/** What is named, or the usual one when there is one. */
export function configFileOf (context: CommandContext, options: Pick<UpOptions, 'config'>): string | undefined {
  const named = options.config ?? context.environment.CARRIER_CONFIG
  if (named !== undefined) return resolve(named)
  const usual = join(context.dataDirectory, CONFIG_FILE_NAME)
  return existsSync(usual) ? usual : undefined
}

function collect (value: string, previous: string[] = []): string[] {
  return [...previous, value]
}

function parsePort (text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new InvalidArgumentError('it must be a port from 0 to 65535')
  return Number(text)
}
