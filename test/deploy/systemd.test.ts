/** deploy/carrier-bootstrap.service: no word that systemd does not know, the exposure that the guide states, and a filter that lets a relay work. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { LIMITS } from '../../src/base/index.ts'
import { firstProcess } from '../support/clean-root.ts'
import { carrierFreeEnvironment, ROOT } from '../support/daemon.ts'
import { startProgram } from '../support/program.ts'
import { requirement } from '../support/requirement.ts'
import { dialOverRelay, openStream, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, within } from '../support/wait.ts'

const unitFile = join(ROOT, 'deploy', 'carrier-bootstrap.service')
const unit = readFileSync(unitFile, 'utf8')
const EXEC = /^ExecStart=(\S+)/m

function toolObstacle (): string | undefined {
  if (process.platform !== 'linux') return 'systemd needs Linux'
  for (const [tool, args, debianPackage] of [['systemd-analyze', ['--version'], 'systemd'], ['strace', ['-f', '-c', '-o', '/dev/null', 'true'], 'strace']] as const) {
    if (spawnSync(tool, args, { stdio: 'pipe' }).status !== 0) return `${tool} does not run (Debian: ${debianPackage})`
  }
  return undefined
}

/** Writes a unit under the service's name, with a program that exists. */
function writeUnit (text: string): string {
  const file = join(makeTempDirectory('unit'), 'carrier-bootstrap.service')
  writeFileSync(file, text.replace(EXEC, 'ExecStart=/bin/true'))
  return file
}

function exposureOf (text: string): number {
  const said = execFileSync('systemd-analyze', ['security', '--offline=true', '--no-pager', writeUnit(text)], { encoding: 'utf8' })
  return Number(/Overall exposure level for carrier-bootstrap\.service: ([\d.]+)/.exec(said)?.[1] ?? Number.NaN)
}

/** Names of system calls in a set of systemd, with those of the sets in it. */
function callsIn (set: string): string[] {
  const lines = execFileSync('systemd-analyze', ['syscall-filter', '--no-pager', set], { encoding: 'utf8' }).split('\n').slice(1).map((line) => line.trim())
  return lines.filter((line) => line !== '' && !line.startsWith('#')).flatMap((line) => line.startsWith('@') ? callsIn(line) : [line])
}

/** The calls that the unit's SystemCallFilter lines let through: the later line takes away. */
function allowedCalls (text: string): Set<string> {
  const allowed = new Set<string>()
  for (const [, isDenied, sets = ''] of text.matchAll(/^SystemCallFilter=(~?)(.*)$/gm)) {
    for (const call of sets.split(' ').flatMap(callsIn)) {
      if (isDenied === '~') allowed.delete(call)
      else allowed.add(call)
    }
  }
  return allowed
}

describe('the systemd unit', requirement('deploy', toolObstacle()), () => {
  after(stopStockPeers)

  test('says nothing that systemd does not know', () => {
    const verify = (text: string): string => spawnSync('systemd-analyze', ['verify', '--man=no', writeUnit(text)], { encoding: 'utf8' }).stderr
    assert.equal(verify(unit), '')
    assert.match(verify(unit.replace('ProtectHome=', 'ProtectHouse=')), /ProtectHouse/)
  })

  test('has the exposure that the guide states', () => {
    const stated = /exposure level ([\d.]+) \(systemd (\d+)\)/.exec(readFileSync(join(ROOT, 'deploy', 'GUIDE.md'), 'utf8'))
    assert.ok(stated !== null, 'the guide states it')
    const version = /^systemd (\d+)/.exec(execFileSync('systemd-analyze', ['--version'], { encoding: 'utf8' }))?.[1]
    const exposure = exposureOf(unit)
    // other versions weigh differently
    if (version === stated[2]) assert.equal(exposure, Number(stated[1]))
    assert.ok(exposure <= 1.5, String(exposure))
    assert.ok(exposureOf(unit.replace('SystemCallFilter=~@privileged @resources', '')) > exposure)
  })

  test('gives the drain its time, and runs the command with the file that is there', () => {
    assert.ok(Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1]) * 1000 > LIMITS.relayDrainMs + 5_000)
    assert.match(unit, /^ExecStart=\/usr\/local\/bin\/carrier-bootstrap --config \/etc\/carrier-bootstrap\.toml$/m)
    const state = /^StateDirectory=(\S+)$/m.exec(unit)?.[1] ?? ''
    assert.match(readFileSync(join(ROOT, 'deploy', 'carrier-bootstrap.toml'), 'utf8'), new RegExp(`^data_dir = "/var/lib/${state}"$`, 'm'))
  })

  test('its filter lets through what a relay does with reservations, circuits, WebSocket and metrics', { timeout: 240_000 }, async () => {
    const counts = join(makeTempDirectory('strace'), 'counts')
    const args = ['-f', '-c', '-o', counts, process.execPath, '--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--data-dir', makeTempDirectory('relay'), '--listen', '/ip4/127.0.0.1/tcp/0', '--listen', '/ip4/127.0.0.1/tcp/0/ws', '--health', '127.0.0.1:0']
    const relay = startProgram('strace', args, { env: carrierFreeEnvironment(), name: 'traced relay' })
    const { addresses, health } = JSON.parse(await relay.line(0)) as { addresses: string[], health: string }
    const office = await startStockPeer({ relays: addresses.slice(0, 1) })
    const laptop = await startStockPeer()
    await office.handle('/test/hold/1.0.0', () => { /* held */ }, { runOnLimitedConnection: true })
    await openStream(await dialOverRelay(laptop, addresses[0] ?? '', office), '/test/hold/1.0.0')
    assert.equal((await fetch(`http://${health}/metrics`)).status, 200)
    await Promise.all([laptop.stop(), office.stop()])
    process.kill(await firstProcess(relay), 'SIGTERM')
    assert.deepEqual(await within('the end', PATIENCE_MS, relay.exited), { code: 0, signal: null }, relay.stderr().slice(-2000))
    const made = readFileSync(counts, 'utf8').split('\n').slice(2).map((line) => line.trim().split(/\s+/).at(-1) ?? '').filter((name) => /^\w+$/.test(name) && name !== 'total')
    assert.ok(made.includes('accept4') && made.some((name) => name.startsWith('epoll_')), made.join(' '))
    // SQLite gives new files to their directory's owner when it runs as root, which the unit does not
    const allowed = allowedCalls(unit).add('fchown')
    assert.deepEqual(made.filter((name) => !allowed.has(name)), [])
    const narrow = allowedCalls(unit.replace('~@privileged', '~@network-io @privileged'))
    assert.ok(made.some((name) => !narrow.has(name)), 'a filter that is too narrow is seen')
  })
})
