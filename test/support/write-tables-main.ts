/** `npm run tables`: writes the generated tables of ARCHITECTURE.md, README.md and PROTOCOL.md. The guard tests compare them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ERRORS } from '../../src/base/errors.ts'
import { LIMIT_TABLE } from '../../src/base/limits.ts'
import { controlTables } from './control-tables.ts'
import { registeredMetrics } from './registered-metrics.ts'

const root = join(import.meta.dirname, '..', '..')

const limits = ['| limit | value | unit | what happens when it is reached |', '|---|---|---|---|',
  ...Object.entries(LIMIT_TABLE).map(([name, limit]) => `| \`${name}\` | ${limit.value.toLocaleString('en-US')} | ${limit.unit} | ${limit.overflow} |`)]

const errors = ['| code | exit | HTTP | wire |', '|---|---|---|---|',
  ...Object.entries(ERRORS).map(([code, facts]) => `| \`${code}\` | ${facts.exit} | ${facts.http} | ${facts.wire === 0 ? '–' : facts.wire} |`)]

const metrics = ['| metric | what it counts |', '|---|---|',
  ...(await registeredMetrics()).map(({ name, help }) => `| \`${name}\` | ${help} |`)]

const { commands, methods, events } = controlTables()
writeTables('ARCHITECTURE.md', { limits, errors, metrics })
writeTables('README.md', { commands })
writeTables('PROTOCOL.md', { methods, events })

/** Replaces what stands between the markers of each table. */
function writeTables (file: string, tables: Record<string, string[]>): void {
  const path = join(root, file)
  let text = readFileSync(path, 'utf8')
  for (const [name, rows] of Object.entries(tables)) {
    text = text.replace(new RegExp(`(<!-- table:${name} -->\n)[^]*?(<!-- /table -->)`), (_, start: string, end: string) => `${start}${rows.join('\n')}\n${end}`)
  }
  writeFileSync(path, text)
}
