/** The tables of the documents about commands and the control API, made from the code. */
import type { Command } from 'commander'
import { z } from 'zod'
import { createProgram } from '../../bin/carrier.ts'
import { JSON_SHAPES } from '../../bin/json-shapes.ts'
import { EVENTS, METHODS } from '../../src/control/client/index.ts'

/** Rows with their heading, by name of the marker that encloses them in a document. */
export function controlTables (): { commands: string[], methods: string[], events: string[] } {
  return {
    commands: ['| command | what it does | `--json` gives |', '|---|---|---|', ...commandRows(createProgram(), [])],
    methods: ['| method | verb | path | what it does | input | answer |', '|---|---|---|---|---|---|',
      ...Object.entries(METHODS).map(([name, { verb, path, about, input, output }]) => `| \`${name}\` | ${verb} | \`${path}\` | ${about} | \`${describe(input)}\` | \`${describe(output)}\` |`)],
    events: ['| event | when | data |', '|---|---|---|',
      ...Object.entries(EVENTS).map(([name, { about, payload }]) => `| \`${name}\` | ${about} | \`${describe(payload)}\` |`)]
  }
}

/** The JSON shapes that no command of the tree has, and the commands that have none; both must be empty but for what prints no result. */
export function unmatchedShapes (): { shapes: string[], commands: string[] } {
  const names = leaves(createProgram(), []).map(({ path }) => path.join(' '))
  const shapes = Object.keys(JSON_SHAPES).map((name) => name.replace(/ [A-Z]+$/, ''))
  return { shapes: shapes.filter((name) => !names.includes(name)), commands: names.filter((name) => !shapes.includes(name)) }
}

function leaves (command: Command, path: string[]): Array<{ command: Command, path: string[] }> {
  const isCallable = command.commands.length === 0 || command.registeredArguments.length > 0
  return [...isCallable && path.length > 0 ? [{ command, path }] : [], ...command.commands.flatMap((child) => leaves(child, [...path, child.name()]))]
}

function commandRows (program: Command, path: string[]): string[] {
  return leaves(program, path).map(({ command, path: words }) => {
    const parameters = command.registeredArguments.map((argument) => argument.required ? argument.name().toUpperCase() : `[${argument.name().toUpperCase()}]`)
    const options = command.options.filter(({ hidden }) => !hidden).map((option) => `[${option.flags.replace(/<(.*)>/, (_, name: string) => name.toUpperCase())}]${option.description.includes('(repeatable)') ? '...' : ''}`)
    const name = words.join(' ')
    const shapes = Object.entries(JSON_SHAPES).filter(([key]) => key === name || key.replace(/ [A-Z]+$/, '') === name)
    const json = shapes.map(([key, shape]) => `${key === name ? '' : `with ${key.slice(name.length + 1)}: `}\`${describe(shape)}\``).join('; ')
    return `| \`carrier ${[name, ...parameters, ...options].join(' ')}\` | ${command.description()} | ${json === '' ? 'nothing: bytes' : json} |`
  })
}

/** `{did, address?, relays: [{…}]}`: names alone, for what they hold see the code. */
function describe (shape: z.core.$ZodType): string {
  if (shape instanceof z.ZodOptional) return describe(shape.unwrap())
  if (shape instanceof z.ZodArray) return `[${describe(shape.element)}]`
  if (!(shape instanceof z.ZodObject)) return '…'
  const members = Object.entries(shape.shape as Record<string, z.ZodType>).map(([name, member]) => {
    const inner = describe(member)
    return `${name}${member instanceof z.ZodOptional ? '?' : ''}${/[{]/.test(inner) ? `: ${inner}` : inner.startsWith('[') ? ': […]' : ''}`
  })
  return `{${members.join(', ')}}`
}
