/** The package as a user gets it: packed, installed into an empty prefix, run from there. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'node:test'
import { VERSION } from '../../src/version.ts'

const root = join(import.meta.dirname, '..', '..')
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`, CARRIER_DATA_DIR: undefined }

function run (file: string, args: string[], cwd: string): { status: number | null, stdout: string, stderr: string } {
  return spawnSync(file, args, { cwd, env, encoding: 'utf8', timeout: 400_000 })
}

test('the version in the code is the version of the package', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  assert.equal(VERSION, manifest.version)
})

test('the packed package installs into an empty prefix and its carrier runs: version, up, status, down', { timeout: 600_000 }, (t) => {
  const work = mkdtempSync(join(tmpdir(), 'carrier-pack-'))
  const dataDirectory = join(work, 'data')
  t.after(() => { rmSync(work, { recursive: true, force: true }) })

  const packed = run('npm', ['pack', '--silent', '--pack-destination', work], root)
  assert.equal(packed.status, 0, packed.stderr)
  const archive = readdirSync(work).find((name) => name.endsWith('.tgz'))
  assert.ok(archive !== undefined)
  writeFileSync(join(work, 'package.json'), '{ "private": true }')
  const installed = run('npm', ['install', '--silent', '--no-audit', '--no-fund', '--prefer-offline', join(work, archive)], work)
  assert.equal(installed.status, 0, installed.stderr)

  const lint = run(join(root, 'node_modules', '.bin', 'publint'), ['--strict', join(work, 'node_modules', 'carrier-p2p')], root)
  assert.equal(lint.status, 0, lint.stdout + lint.stderr)

  const carrier = (...args: string[]): ReturnType<typeof run> => run(join(work, 'node_modules', '.bin', 'carrier'), [...args, '--data-dir', dataDirectory], work)
  const version = carrier('version', '--json')
  assert.equal(version.status, 0, version.stderr)
  assert.equal((JSON.parse(version.stdout) as { version: string }).version, VERSION)
  t.after(() => { carrier('down') })
  const up = carrier('up', '--json')
  assert.equal(up.status, 0, up.stderr)
  const status = carrier('status', '--json')
  assert.equal(status.status, 0, status.stderr)
  assert.match((JSON.parse(status.stdout) as { did: string }).did, /^did:key:z6Mk/)
  const down = carrier('down')
  assert.equal(down.status, 0, down.stderr)
  const after = carrier('status')
  assert.equal(after.status, 1)
  assert.match(after.stderr, /carrier up/)

  const library = run(process.execPath, ['--input-type=module', '-e',
    "const a = await import('carrier-p2p'); const b = await import('carrier-p2p/control'); const c = await import('carrier-p2p/bootstrap'); console.log(typeof a.createCarrier, Object.keys(b).length > 0, Object.keys(c).length > 0)"], work)
  assert.equal(library.stdout.trim(), 'function true true', library.stderr)
})

test('on a Node that is too old the commands say so in one line', (t) => {
  const old = run('/usr/bin/env', ['-i', 'PATH=/usr/local/bin:/usr/bin:/bin', 'node', '--version'], root)
  const major = Number(/^v(\d+)/.exec(old.stdout)?.[1] ?? '99')
  if (major >= 24) {
    // the machine's own Node is new enough: the same launcher then has to run
    const fine = run(process.execPath, [join(root, 'bin', 'carrier.js'), 'version'], root)
    assert.equal(fine.status, 0, fine.stderr)
    return
  }
  for (const name of ['carrier', 'carrier-bootstrap']) {
    const result = run('/usr/bin/env', ['-i', 'PATH=/usr/local/bin:/usr/bin:/bin', 'node', join(root, 'bin', `${name}.js`), 'version'], root)
    assert.equal(result.status, 1)
    assert.match(result.stderr, new RegExp(`^${name} needs Node 24 or newer, this is v\\d+[^\\n]*\\n$`))
  }
  t.diagnostic(`seen with ${old.stdout.trim()}`)
})
