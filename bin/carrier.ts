/** The command line: builds the tree of commands, runs one, and turns what went wrong into words and an exit code. */
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { ERRORS, errorCode, errorMessage } from '../src/base/light.ts'
import { addAddressCommands } from './commands/address.ts'
import { addCompletionCommand } from './commands/completion.ts'
import { addDoctorCommand } from './commands/doctor.ts'
import { addDownCommand } from './commands/down.ts'
import { addForwardCommands } from './commands/forward.ts'
import { addFriendCommands } from './commands/friend.ts'
import { addIdCommand } from './commands/id.ts'
import { addNcCommand } from './commands/nc.ts'
import { addNetcheckCommand } from './commands/netcheck.ts'
import { addPingCommand } from './commands/ping.ts'
import { addTraceCommand } from './commands/trace.ts'
import { addWhyCommand } from './commands/why.ts'
import { addServiceCommands } from './commands/service.ts'
import { addStatusCommand } from './commands/status.ts'
import { addUpCommand } from './commands/up.ts'
import { addVersionCommand } from './commands/version.ts'
import { openContext } from './context.ts'
import { safeLines, toJson } from './output.ts'

/** Exit code of wrong usage. */
const USAGE_EXIT = 2

/** Runs the command with the arguments after the program's name; sets the exit code. */
export async function main (argv: string[]): Promise<void> {
  const program = createProgram()
  let active = program
  program.hook('preAction', (_program, command) => { active = command })
  try {
    await program.parseAsync(argv, { from: 'user' })
  } catch (err) {
    process.exitCode = report(err, active)
  }
}

/** The tree of commands, also for completion scripts and tests. */
export function createProgram (): Command {
  const program = new Command('carrier')
    .description('Reach services behind NAT through friends: end-to-end encrypted, no open port.')
    .option('--data-dir <dir>', 'directory with identity and state (default: $CARRIER_DATA_DIR or ~/.carrier)', nonEmpty)
    .option('--json', 'results as JSON on stdout')
    .configureHelp({ showGlobalOptions: true })
    .helpCommand('help [command]', 'show help for a command')
    .addHelpText('after', `
First steps:
  carrier up --relay MULTIADDR          start the daemon
  carrier id                            show the address to give to friends
  carrier friend add ADDRESS            ask someone; they run: carrier friend accept WHO
  carrier serve postgres 5432 --allow WHO
  carrier forward 5433 WHO/postgres     on the other side

When something does not work: carrier doctor, carrier why WHO, carrier trace WHO/SERVICE

WHO is a friend's label or DID. Exit codes: 0 ok, 1 failed, 2 usage, 3 denied or no such service, 4 peer offline, 5 timeout.`)
  addUpCommand(program)
  addDownCommand(program)
  addIdCommand(program)
  addAddressCommands(program)
  addStatusCommand(program)
  addFriendCommands(program)
  addServiceCommands(program)
  addForwardCommands(program)
  addNcCommand(program)
  addPingCommand(program)
  addWhyCommand(program)
  addTraceCommand(program)
  addNetcheckCommand(program)
  addDoctorCommand(program)
  addCompletionCommand(program)
  addVersionCommand(program)
  throwInsteadOfExit(program)
  return program
}

/** Commander copies settings to commands only when they are made; ours are made everywhere. */
function throwInsteadOfExit (command: Command): void {
  command.exitOverride().showHelpAfterError('(see: carrier help)').configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, 'carrier: ')) } })
  for (const child of command.commands) throwInsteadOfExit(child)
}

/** `--data-dir "$UNSET"` must not mean the working directory. */
function nonEmpty (text: string): string {
  if (text === '') throw new InvalidArgumentError('it is empty')
  return text
}

function report (err: unknown, command: Command): number {
  // commander has already written its own message, or the help that was asked for
  if (err instanceof CommanderError) return err.exitCode === 0 ? 0 : USAGE_EXIT
  const code = errorCode(err)
  const context = openContext(command)
  const message = code === 'ERR_NOT_RUNNING' ? `no daemon runs on ${context.dataDirectory}; run: carrier up${context.dataDirectoryFlag}` : errorMessage(err)
  const detail = err instanceof Error && 'detail' in err ? err.detail : undefined
  if (context.isJson) process.stderr.write(`${toJson({ error: { code, message, detail } })}\n`)
  else process.stderr.write(`carrier: ${safeLines(message)}\n`)
  return ERRORS[code].exit
}
