/** The checks are checked: planted violations of the folder rules must be found. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'

const root = join(import.meta.dirname, '..', '..')

const PLANTED = [
  { rule: 'layer-base', file: 'src/base/planted-violation.ts', source: "import { parseDid } from '../identity/index.ts'\nexport const planted = parseDid\n" },
  { rule: 'one-door', file: 'src/identity/planted-violation.ts', source: "import type { CarrierNode } from '../node/types.ts'\nexport type Planted = CarrierNode\n" },
  { rule: 'control-client-is-thin', file: 'src/control/client/planted-violation.ts', source: "import { parseDid } from '../../identity/index.ts'\nexport const planted = parseDid\n" },
  { rule: 'no-unresolved', file: 'src/base/planted-violation.ts', source: "import { nothing } from './not-there.ts'\nexport const planted = nothing\n" },
  { rule: 'no-dev-dependencies', file: 'src/base/planted-violation.ts', source: "import fc from 'fast-check'\nexport const planted = fc\n" }
] as const

for (const { rule, file, source } of PLANTED) {
  test(`a planted violation of ${rule} is found`, (t) => {
    const path = join(root, file)
    t.after(() => { rmSync(path, { force: true }) })
    writeFileSync(path, source)
    const result = spawnSync(process.execPath, [join(root, 'node_modules', 'dependency-cruiser', 'bin', 'dependency-cruiser.mjs'), '--config', '.dependency-cruiser.cjs', file], { cwd: root, encoding: 'utf8' })
    assert.notEqual(result.status, 0)
    assert.match(result.stdout, new RegExp(`error ${rule}:`))
  })
}
