/** `carrier completion SHELL`: a script that completes commands and options; made from the tree of commands itself. */
import type { Command } from 'commander'
import { Argument } from 'commander'
import { openContext } from '../context.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const

/** One place in the tree: the words before it, and what may follow. */
interface Place { path: string, commands: Array<{ name: string, about: string }>, options: string[] }

/** Adds the command. */
export function addCompletionCommand (program: Command): void {
  program.command('completion').addArgument(new Argument('<shell>').choices(SHELLS)).description('print a completion script for bash, zsh or fish')
    .addHelpText('after', '\nbash: source <(carrier completion bash)\nzsh:  source <(carrier completion zsh)\nfish: carrier completion fish | source')
    .action((shell: (typeof SHELLS)[number], _options: unknown, command: Command) => {
      const places = walk(program, '')
      const script = shell === 'fish' ? fish(places) : shell === 'zsh' ? `autoload -U +X bashcompinit && bashcompinit\n${bash(places)}` : bash(places)
      openContext(command).print('completion', { shell, script }, script.trimEnd())
    })
}

function walk (command: Command, path: string): Place[] {
  const commands = command.commands.map((child) => ({ name: child.name(), about: child.description() }))
  const options = command.options.filter(({ hidden }) => !hidden).flatMap(({ long }) => long ?? [])
  return [{ path, commands, options }, ...command.commands.flatMap((child) => walk(child, `${path} ${child.name()}`.trim()))]
}

function bash (places: readonly Place[]): string {
  const globals = places[0]?.options ?? []
  const known = places.filter(({ path }) => path !== '').map(({ path }) => `'${path}'`).join('|')
  const cases = places.map(({ path, commands, options }) =>
    `    '${path}') words='${[...commands.map(({ name }) => name), ...new Set([...options, ...globals, '--help'])].join(' ')}' ;;`)
  return `_carrier() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" path='' next words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="\${path:+$path }\${COMP_WORDS[i]}"
    case "$next" in ${known}) path="$next" ;; esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ "\${#COMPREPLY[@]}" -gt 0 ] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -F _carrier carrier
`
}

function fish (places: readonly Place[]): string {
  const rows = places.flatMap(({ path, commands, options }) => {
    const words = path.split(' ').filter((word) => word !== '')
    const names = commands.map(({ name }) => name).join(' ')
    const here = words.length === 0 ? '__fish_use_subcommand' : words.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ')
    const condition = words.length === 0 || commands.length === 0 ? here : `${here}; and not __fish_seen_subcommand_from ${names}`
    return [
      ...commands.map(({ name, about }) => `complete -c carrier -f -n '${condition}' -a ${name} -d '${about.replaceAll("'", "\\'")}'`),
      ...options.map((option) => `complete -c carrier ${words.length === 0 ? '' : `-n '${here}' `}-l ${option.slice(2)}`)
    ]
  })
  return `${rows.join('\n')}\n`
}
