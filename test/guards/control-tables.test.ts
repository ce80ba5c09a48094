/** What the documents say about commands, methods and events is what the code has. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { ENVIRONMENT_VARIABLES } from '../../bin/context.ts'
import { EVENTS } from '../../src/control/client/index.ts'
import { CONFIG_KEYS } from '../../src/control/server/index.ts'
import { controlTables, unmatchedShapes } from '../support/control-tables.ts'

const root = join(import.meta.dirname, '..', '..')

/** The rows between the markers of a table; `npm run tables` writes them. */
function documented (file: string, name: string): string[] {
  const found = new RegExp(`<!-- table:${name} -->\n([^]*?)\n<!-- /table -->`).exec(readFileSync(join(root, file), 'utf8'))
  assert.ok(found !== null, `${file} has no table between <!-- table:${name} --> and <!-- /table -->`)
  return (found[1] ?? '').split('\n')
}

for (const [file, name] of [['README.md', 'commands'], ['PROTOCOL.md', 'methods'], ['PROTOCOL.md', 'events']] as const) {
  test(`${file}: the table of ${name} is that of the code`, () => {
    assert.deepEqual(documented(file, name), controlTables()[name], 'run: npm run tables')
  })
}

test('every command has a JSON shape but nc, whose output is bytes, and every shape has a command', () => {
  assert.deepEqual(unmatchedShapes(), { shapes: [], commands: ['nc'] })
})

test('every event that the engine relays is in the table, and every one of the table is relayed', () => {
  const source = readFileSync(join(root, 'src', 'carrier.ts'), 'utf8')
  const relayed = new Set([...source.matchAll(/events\.emit\('([a-z]+:[a-z-]+)'/g)].map((match) => match[1]))
  for (const list of source.matchAll(/for \(const name of \[([^\]]*)\] as const\) \{\s*\w+\.on\(name, \(payload\) => \{ events\.emit\(name, payload\) \}\)/g)) {
    for (const match of (list[1] ?? '').matchAll(/'([^']+)'/g)) relayed.add(match[1])
  }
  // the stream itself says that it lagged
  relayed.add('control:lagged')
  assert.deepEqual([...relayed].sort(), Object.keys(EVENTS).sort())
})

test('README.md names every environment variable and every key of carrier.toml', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  for (const name of ENVIRONMENT_VARIABLES) assert.ok(readme.includes(`\`${name}\``), name)
  for (const [table, keys] of Object.entries(CONFIG_KEYS)) {
    for (const key of keys.filter((item) => table !== '' || !['services', 'forwards', 'network'].includes(item))) assert.match(readme, new RegExp(`^(# )?${key} += `, 'm'), `${table} ${key}`)
  }
})
