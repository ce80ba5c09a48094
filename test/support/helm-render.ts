/**
 * Renders the templates of our chart as Helm would. It knows what they use and refuses the rest: substitution, and three kinds
 * of line that stand alone: {{- if eq .Values.a "b" }}, {{- range $n := until (int .Values.c) }}, {{- end }}.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

/** What templates may refer to. */
export interface HelmScope { Values: unknown, Release: { Name: string, Namespace: string }, Chart: unknown }

/** Text of every template of a chart, by file name. */
export function renderChart (directory: string, scope: HelmScope): Map<string, string> {
  const folder = join(directory, 'templates')
  return new Map(readdirSync(folder).sort().map((name) => [basename(name), renderTemplate(readFileSync(join(folder, name), 'utf8'), scope, name)]))
}

/** @throws Error FILE:LINE for a reference that leads nowhere, and for what is not known */
export function renderTemplate (text: string, scope: HelmScope, name = 'template'): string {
  const lines = text.split('\n').map((line, index) => ({ line, at: `${name}:${index + 1}` }))
  return renderLines(lines, { scope, variables: {}, isInRange: false }).join('\n')
}

interface Line { line: string, at: string }
interface Frame { scope: HelmScope, variables: Record<string, number>, isInRange: boolean }

const BLOCK = /^\{\{- (if|range|end)\b ?(.*?) ?\}\}$/

function renderLines (lines: readonly Line[], frame: Frame): string[] {
  const result: string[] = []
  for (let index = 0; index < lines.length; index++) {
    const current = lines[index]
    if (current === undefined) break
    const block = BLOCK.exec(current.line)
    if (block === null) {
      result.push(substitute(current, frame))
      continue
    }
    if (block[1] === 'end') throw new Error(`${current.at}: an end without a beginning`)
    const end = endOf(lines, index)
    const body = lines.slice(index + 1, end)
    if (block[1] === 'if') {
      const [, path = '', word] = /^eq (\S+) "(\w+)"$/.exec(block[2] ?? '') ?? []
      if (word === undefined) throw new Error(`${current.at}: not known: ${current.line}`)
      if (lookUp(path, frame, current.at) === word) result.push(...renderLines(body, frame))
    } else {
      const [, variable = '', path] = /^(\$\w+) := until \(int (\S+)\)$/.exec(block[2] ?? '') ?? []
      if (path === undefined) throw new Error(`${current.at}: not known: ${current.line}`)
      const count = Number(lookUp(path, frame, current.at))
      for (let number = 0; number < count; number++) result.push(...renderLines(body, { ...frame, variables: { ...frame.variables, [variable]: number }, isInRange: true }))
    }
    index = end
  }
  return result
}

function endOf (lines: readonly Line[], start: number): number {
  let depth = 0
  for (let index = start; index < lines.length; index++) {
    const kind = BLOCK.exec(lines[index]?.line ?? '')?.[1]
    if (kind !== undefined) depth += kind === 'end' ? -1 : 1
    if (depth === 0) return index
  }
  throw new Error(`${lines[start]?.at ?? ''}: no end`)
}

function substitute ({ line, at }: Line, frame: Frame): string {
  const result = line.replaceAll(/\{\{ (\S+) \}\}/g, (_, path: string) => String(lookUp(path, frame, at)))
  if (/\{\{|\}\}/.test(result)) throw new Error(`${at}: not known: ${line}`)
  return result
}

function lookUp (path: string, { scope, variables, isInRange }: Frame, at: string): string | number {
  if (/^\$\w+$/.test(path)) {
    const value = variables[path]
    if (value === undefined) throw new Error(`${at}: ${path} is not set`)
    return value
  }
  // inside a range the dot is the element: only $ leads to the top
  if (!path.startsWith(isInRange ? '$.' : '.')) throw new Error(`${at}: ${path} leads nowhere here`)
  let value: unknown = scope
  for (const part of path.replace(/^\$?\./, '').split('.')) value = (value as Record<string, unknown> | undefined)?.[part]
  if (typeof value !== 'string' && typeof value !== 'number') throw new Error(`${at}: ${path} is not a text or a number`)
  // Helm holds numbers as floats and writes large ones as 1e+06
  if (typeof value === 'number' && !(Number.isSafeInteger(value) && Math.abs(value) < 1_000_000)) throw new Error(`${at}: ${path} is a number that Helm writes otherwise`)
  return value
}
