/** What a command loads: no engine, no server, no libp2p. Measured on the real module graph, with a planted violation. */
import assert from 'node:assert/strict'
import { globSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import test from 'node:test'
import { runProgram } from '../support/program.ts'

const root = join(import.meta.dirname, '..', '..')

/** Packages that a command and the control client may load when they start. */
const ALLOWED = new Set(['commander', 'zod'])

/** Our own folders that they may load. */
const ALLOWED_FOLDERS = /^(bin|src\/base|src\/control\/client)\/|^src\/version\.ts$/

/** Says on stderr which modules an import loads, static imports of static imports included; what is imported later is not seen. */
const PROBE = `
import { registerHooks } from 'node:module'
registerHooks({ load (url, context, next) { process.stderr.write(url + '\\n'); return next(url, context) } })
await import(process.argv[1])
process.exit()
`

async function loadedBy (file: string): Promise<{ packages: Set<string>, files: Set<string> }> {
  const { exitCode, stderr } = await runProgram(process.execPath, ['--conditions=carrier-source', '--input-type=module', '--eval', PROBE, '--', join(root, file)], { cwd: root })
  assert.equal(exitCode, 0, stderr)
  const packages = new Set<string>()
  const files = new Set<string>()
  for (const url of stderr.split('\n').filter((line) => line.startsWith('file://'))) {
    const path = url.slice(`file://${root}/`.length)
    const name = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*node_modules\/)/.exec(path)?.[1]
    if (name === undefined) files.add(path)
    else packages.add(name)
  }
  return { packages, files }
}

function violations ({ packages, files }: { packages: Set<string>, files: Set<string> }): string[] {
  return [...packages].filter((name) => !ALLOWED.has(name)).concat([...files].filter((path) => !ALLOWED_FOLDERS.test(path)))
}

for (const file of ['src/control/client/index.ts', 'bin/carrier.ts', ...globSync('bin/commands/*.ts', { cwd: root }).sort()]) {
  test(`${file} loads no engine`, async () => {
    const loaded = await loadedBy(file)
    assert.ok(loaded.files.has(file), 'the probe sees')
    assert.deepEqual(violations(loaded), [])
  })
}

test('what a command loads later is known: the engine in the daemon, the key file without one, the QR code when asked', () => {
  const later = globSync(['bin/**/*.ts', 'src/control/client/*.ts', 'src/base/*.ts'], { cwd: root })
    // dependency-rules.test.ts plants some and takes them away meanwhile
    .filter((file) => !file.endsWith('planted-violation.ts'))
    .flatMap((file) => [...readFileSync(join(root, file), 'utf8').matchAll(/\bimport\(\s*([^)]*?)\s*\)/g)].map((match) => `${file} → ${match[1]}`))
  assert.deepEqual(later.sort(), ["bin/carrier-bootstrap.ts → '../src/bootstrap/index.ts'", "bin/commands/doctor.ts → '../doctor-alone.ts'", "bin/commands/id.ts → '../stored-id.ts'", "bin/commands/id.ts → 'qrcode'", "bin/commands/up.ts → '../daemon.ts'"])
})

test('a planted import of the engine is found', async (t) => {
  const path = join(root, 'bin', 'commands', 'planted-violation.ts')
  t.after(() => { rmSync(path, { force: true }) })
  writeFileSync(path, "import { createCarrier } from '../../src/index.ts'\nexport const planted = createCarrier\n")
  const found = violations(await loadedBy(join('bin', 'commands', basename(path))))
  for (const name of ['libp2p', '@libp2p/tcp', 'src/carrier.ts']) assert.ok(found.includes(name), `${name} is missing in ${found.slice(0, 20).join(' ')}`)
})
