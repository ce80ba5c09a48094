/** The tables of deploy/GUIDE.md that are made from the code: what a relay logs and what it counts. */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { ROOT } from './daemon.ts'

/** A line that a relay can log; `…` stands for what differs. */
export interface LogMessage { level: string, message: string, fields: string[] }

/** Where lines of a relay come from. */
const LOGGING = ['src/bootstrap/*.ts', 'src/identity/keystore.ts', 'src/base/lifecycle.ts', 'bin/carrier-bootstrap.ts']
const LEVELS = ['info', 'warn', 'error']

/** Every message at the levels info, warn and error, as the code has it. @throws Error for a call that cannot be read */
export function logMessages (): LogMessage[] {
  const files = globSync(LOGGING, { cwd: ROOT }).sort()
  const found = files.flatMap((file) => callsIn(ts.createSourceFile(file, readFileSync(join(ROOT, file), 'utf8'), ts.ScriptTarget.Latest, true)))
  return found.toSorted((a, b) => a.message < b.message ? -1 : 1)
}

function callsIn (source: ts.SourceFile): LogMessage[] {
  const result: LogMessage[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && LEVELS.includes(node.expression.name.text) && /\blog$/.test(node.expression.expression.getText())) {
      const level = node.expression.name.text
      const [message, fields] = node.arguments
      if (message === undefined) throw new Error(`${source.fileName}: a log call without a message`)
      for (const text of messagesOf(message)) result.push({ level, message: text, fields: fields === undefined ? [] : fieldsOf(fields, source) })
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return result
}

/** The texts that a message can be. */
function messagesOf (node: ts.Expression): string[] {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) return [node.text]
  if (ts.isTemplateExpression(node)) return [[node.head.text, ...node.templateSpans.map(({ literal }) => literal.text)].join('…')]
  if (ts.isConditionalExpression(node)) return [...messagesOf(node.whenTrue), ...messagesOf(node.whenFalse)]
  throw new Error(`${node.getSourceFile().fileName}: the message ${node.getText()} cannot be read`)
}

/** Names of the fields of an object, also of one that was given a name before. */
function fieldsOf (node: ts.Expression, source: ts.SourceFile): string[] {
  if (ts.isObjectLiteralExpression(node)) return node.properties.map((property) => property.name?.getText() ?? `…${property.getText()}`)
  if (ts.isIdentifier(node)) {
    const [, fields] = new RegExp(`const ${node.text} = \\{ (.*) \\}$`, 'm').exec(source.text) ?? []
    if (fields !== undefined) return fieldsOf(parseExpression(`{ ${fields} }`), source)
  }
  throw new Error(`${source.fileName}: the fields ${node.getText()} cannot be read`)
}

function parseExpression (text: string): ts.Expression {
  const statement = ts.createSourceFile('fields.ts', `(${text})`, ts.ScriptTarget.Latest, true).statements[0]
  if (statement === undefined || !ts.isExpressionStatement(statement) || !ts.isParenthesizedExpression(statement.expression)) throw new Error(`${text} is not an object`)
  return statement.expression.expression
}

/** Rows for what stands between the markers `logged` and `counted`. */
export function guideTables (metrics: string): { logged: string[], counted: string[] } {
  return {
    logged: ['| level | message | fields |', '|---|---|---|', ...logMessages().map(({ level, message, fields }) => `| ${level} | ${message} | ${fields.map((name) => `\`${name}\``).join(', ')} |`)],
    counted: ['| metric | what it counts |', '|---|---|', ...[...metrics.matchAll(/^# HELP (\S+) (.*)$/gm)].map(([, name = '', help = '']) => `| \`${name}\` | ${help} |`).sort()]
  }
}

/** What stands between the markers of a table. @throws Error when they are not there */
export function readTable (text: string, name: string): string[] {
  const match = new RegExp(`<!-- ${name} -->\n([^]*?)<!-- /${name} -->`).exec(text)
  if (match === null) throw new Error(`there is no table ${name}`)
  return (match[1] ?? '').split('\n').filter((line) => line !== '')
}
