/** deploy/deb/build.sh: the package, what is in it, and its life in a clean root: installed, run, updated, removed. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, describe, test } from 'node:test'
import { VERSION } from '../../src/version.ts'
import { cleanRootObstacle, firstProcess, furnishLikeNodeImage, insideEnvironment, openCleanRoots } from '../support/clean-root.ts'
import type { CleanRoot, CleanRoots } from '../support/clean-root.ts'
import { ROOT } from '../support/daemon.ts'
import { mustRun, runProgram, startProgram } from '../support/program.ts'
import { requirement } from '../support/requirement.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

const BUILD_DEADLINE_MS = 400_000
const CONFIG = '/etc/carrier-bootstrap.toml'

function obstacle (): string | undefined {
  return spawnSync('dpkg-deb', ['--version'], { stdio: 'pipe' }).status === 0 ? cleanRootObstacle() : 'dpkg-deb does not run (Debian: dpkg)'
}

async function build (...options: string[]): Promise<string> {
  // the script's node and npm: the Node of this test
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` }
  const said = await mustRun('sh', [join(ROOT, 'deploy', 'deb', 'build.sh'), '--fast', ...options, makeTempDirectory('deb')], { env, deadlineMs: BUILD_DEADLINE_MS })
  return said.trim().split('\n').at(-1) ?? ''
}

function field (file: string, name: string): string {
  return execFileSync('dpkg-deb', ['--field', file, name], { encoding: 'utf8' }).trim()
}

describe('the Debian package', requirement('deploy', obstacle()), () => {
  let roots: CleanRoots | undefined
  /** The program as the first package has it. */
  let app: string | undefined
  after(async () => { await roots?.close() })

  test('without a Node of its own: for every architecture, needs Node 24, owned by root, settings are the administrator\'s', { timeout: BUILD_DEADLINE_MS }, async () => {
    const file = await build()
    assert.equal(field(file, 'Package'), 'carrier-bootstrap')
    assert.equal(field(file, 'Version'), VERSION)
    assert.equal(field(file, 'Architecture'), 'all')
    assert.equal(field(file, 'Depends'), 'nodejs (>= 24)')
    const lines = execFileSync('dpkg-deb', ['--contents', file], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 }).trim().split('\n')
    const paths = new Map(lines.map((line) => [line.split(/\s+/)[5] ?? '', line]))
    for (const wanted of ['./usr/bin/carrier-bootstrap', './usr/lib/systemd/system/carrier-bootstrap.service', `.${CONFIG}`, './usr/share/doc/carrier-bootstrap/GUIDE.md', './usr/share/doc/carrier-bootstrap/copyright', './usr/lib/carrier/bin/carrier-bootstrap.js', './usr/lib/carrier/dist/bin/carrier-bootstrap.js', './usr/lib/carrier/node_modules/libp2p/package.json']) assert.ok(paths.has(wanted), wanted)
    for (const [path, line] of paths) {
      assert.match(line, /^[-dl]\S+ root\/root /, line)
      assert.doesNotMatch(line, /^-.{4}w|^-.{7}w|^-..s|^-.{5}s/, 'writable for others, or with rights of its own')
      assert.doesNotMatch(path, /node_modules\/(typescript|eslint|knip|node)\/|\/carrier\/(src\/|package-lock)/)
    }
    const control = makeTempDirectory('control')
    execFileSync('dpkg-deb', ['--control', file, control])
    assert.equal(readFileSync(join(control, 'conffiles'), 'utf8'), `${CONFIG}\n`)
    for (const script of ['postinst', 'prerm', 'postrm']) execFileSync('sh', ['-n', join(control, script)])
    const tree = makeTempDirectory('deb')
    execFileSync('dpkg-deb', ['--extract', file, tree])
    assert.match(readFileSync(join(tree, 'usr/bin/carrier-bootstrap'), 'utf8'), /^exec \/usr\/bin\/node \/usr\/lib\/carrier\/bin\/carrier-bootstrap\.js "\$@"$/m)
    app = join(tree, 'usr/lib/carrier')
  })

  test('with Node in it: installs, runs as the unit says, keeps the settings and the identity over an update and a removal', { timeout: BUILD_DEADLINE_MS }, async () => {
    const file = await build('--node', process.execPath, ...app === undefined ? [] : ['--app', app])
    assert.notEqual(field(file, 'Architecture'), 'all')
    roots = await openCleanRoots()
    const root = await roots.create('debian')
    await furnishLikeNodeImage(root, { hasNode: false })
    await mustRun('sh', ['-c', `cd ${root.directory} && mkdir -p var/lib/dpkg/info var/lib/dpkg/updates var/lib/private && touch var/lib/dpkg/status`], { place: root.outside })
    assert.match(await dpkg(root, '--install', file), /look at \/etc\/carrier-bootstrap\.toml, then: systemctl enable --now carrier-bootstrap/)
    const data = 'var/lib/private/carrier-bootstrap'
    await mustRun('sh', ['-c', `cd ${root.directory} && mkdir -m 0700 ${data} && chown 1000:1000 ${data} && ln -s private/carrier-bootstrap var/lib/carrier-bootstrap && chmod 0711 var/lib/private`], { place: root.outside })
    const first = await runAsUnitSays(root)

    await inside(root, 'sh', '-c', `echo 'log_level = "warn"' >> ${CONFIG}`)
    assert.doesNotMatch(await dpkg(root, '--install', nextVersion(file)), /systemctl enable/)
    assert.match(await inside(root, 'cat', CONFIG), /^log_level = "warn"$/m)
    assert.equal(await runAsUnitSays(root), first)

    await dpkg(root, '--remove', 'carrier-bootstrap')
    assert.notEqual((await runProgram('ls', ['/usr/bin/carrier-bootstrap'], { place: root.place(), env: insideEnvironment() })).exitCode, 0)
    assert.match(await dpkg(root, '--purge', 'carrier-bootstrap'), /the identity stays in \/var\/lib\/private\/carrier-bootstrap/)
    assert.match(await inside(root, 'ls', `/${data}`), /^identity\.key$/m)
    assert.notEqual((await runProgram('ls', [CONFIG], { place: root.place(), env: insideEnvironment() })).exitCode, 0)
  })
})

/** Libraries are in the root, but no package of it says so. */
async function dpkg (root: CleanRoot, ...args: string[]): Promise<string> {
  return mustRun('dpkg', [`--root=${root.directory}`, '--force-depends', '--force-confold', ...args], { place: root.outside, deadlineMs: BUILD_DEADLINE_MS })
}

async function inside (root: CleanRoot, command: string, ...args: string[]): Promise<string> {
  return mustRun(command, args, { place: root.place(), env: insideEnvironment() })
}

/** The same package as a later release with other default settings. */
function nextVersion (file: string): string {
  const work = makeTempDirectory('deb')
  const tree = join(work, 'tree')
  mkdirSync(tree)
  execFileSync('dpkg-deb', ['--raw-extract', file, tree])
  const control = join(tree, 'DEBIAN', 'control')
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, 'Version: 999.0.0'))
  writeFileSync(join(tree, CONFIG), '# another default\n', { flag: 'a' })
  const next = join(work, 'next.deb')
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '--build', tree, next], { stdio: 'pipe' })
  return next
}

/** Starts what the installed unit starts, as its user would; gives the PeerId. */
async function runAsUnitSays (root: CleanRoot): Promise<string> {
  const unit = await inside(root, 'cat', '/usr/lib/systemd/system/carrier-bootstrap.service')
  const [command = '', ...args] = /^ExecStart=(.*)$/m.exec(unit)?.[1]?.split(' ') ?? []
  assert.equal(command, '/usr/bin/carrier-bootstrap')
  assert.deepEqual(args, ['--config', CONFIG])
  const relay = startProgram(command, args, { place: root.place({ user: '1000:1000', isFirstProcess: true }), env: insideEnvironment(), name: 'relay of the package' })
  const { peerId } = JSON.parse(await relay.line(0)) as { peerId: string }
  await waitFor('its health', async () => (await inside(root, 'wget', '-q', '-O', '-', 'http://127.0.0.1:9180/readyz')) === 'ready\n', PATIENT)
  process.kill(await firstProcess(relay), 'SIGTERM')
  assert.deepEqual(await within('the end', PATIENCE_MS, relay.exited), { code: 0, signal: null }, relay.stderr())
  return peerId
}
