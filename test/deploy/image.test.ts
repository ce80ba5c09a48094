/** deploy/Dockerfile: our rules for it, and its steps performed in a clean root, where a relay then runs as nobody special on a read-only disk. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { BOOTSTRAP_DEFAULTS, spliceAddresses } from '../../src/bootstrap/index.ts'
import { cleanRootObstacle, firstProcess, insideEnvironment, openCleanRoots } from '../support/clean-root.ts'
import type { CleanRoots } from '../support/clean-root.ts'
import { ROOT } from '../support/daemon.ts'
import { parseDockerfile } from '../support/dockerfile.ts'
import type { DockerStage } from '../support/dockerfile.ts'
import { performImage } from '../support/perform-image.ts'
import type { PerformedImage } from '../support/perform-image.ts'
import { mustRun, runProgram, startProgram } from '../support/program.ts'
import { requirement } from '../support/requirement.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

const text = readFileSync(join(ROOT, 'deploy', 'Dockerfile'), 'utf8')

/** What is wrong with a Dockerfile, in sentences; empty: nothing. */
function faultsOf (source: string): string[] {
  const { stages } = parseDockerfile(source)
  const last = stages.at(-1)
  const runs = stages.flatMap(({ steps }) => steps.filter((step) => step.kind === 'run'))
  const checks: Array<[boolean, string]> = [
    [/^ADD\s/m.test(source), 'ADD fetches and unpacks: COPY does neither'],
    [stages.some(({ image }) => !/^node:\d+\.\d+\.\d+-alpine\d+\.\d+(@sha256:[0-9a-f]{64})?$/.test(image)), 'the base is pinned: node:MAJOR.MINOR.PATCH-alpineX.Y'],
    [stages.length < 2, 'what builds does not ship: more than one stage'],
    [!/^[1-9]\d*:[1-9]\d*$/.test(last?.user ?? ''), 'the user is a number, and not root'],
    [last?.healthcheck === undefined, 'a health check'],
    [last?.entrypoint === undefined, 'an entry point in exec form'],
    [last?.stopSignal !== 'SIGTERM', 'the signal that drains'],
    [JSON.stringify(last?.volumes) !== '["/data"]', 'one volume, /data'],
    [runs.some(({ text: command }) => /\bnpm\s+(install|i)\b/.test(command)), 'npm ci, which holds to the lockfile'],
    [runs.some(({ text: command }) => /\bnpm ci\b/.test(command) && !command.includes('--ignore-scripts')), 'no install scripts'],
    [runs.some(({ text: command }) => /\b(curl|wget|git clone|apk add)\b/.test(command)), 'nothing is fetched but by npm ci'],
    [/(TOKEN|SECRET|PASSWORD|PASSPHRASE|NPMRC|id_rsa)/i.test(source), 'no secrets'],
    [last?.steps.some((step) => step.kind === 'run' && step.text.includes('npm')) === true, 'npm does not run in the stage that ships']
  ]
  return checks.filter(([isBad]) => isBad).map(([, sentence]) => sentence)
}

describe('the Dockerfile', () => {
  test('keeps our rules, and the rules see what breaks them', () => {
    assert.deepEqual(faultsOf(text), [])
    const broken: Array<[RegExp | string, string, RegExp]> = [
      ['COPY package.json ./', 'ADD package.json ./', /ADD/],
      ['alpine3.23\n', 'alpine\n', /pinned/],
      ['node:26.10.0-alpine3.23\n', 'node:latest\n', /pinned/],
      ['USER 1000:1000', 'USER root', /not root/],
      ['USER 1000:1000', 'USER 0:0', /not root/],
      ['USER 1000:1000\n', '', /not root/],
      [/^HEALTHCHECK .*$/m, '', /health/],
      [/^ENTRYPOINT .*$/m, 'ENTRYPOINT node bin/carrier-bootstrap.js', /has to be a list/],
      [/npm ci --omit=dev/, 'npm install --omit=dev', /lockfile/],
      [/--omit=dev --ignore-scripts/, '--omit=dev', /install scripts/],
      ['NODE_ENV=production', 'NPM_TOKEN=x', /secrets/]
    ]
    for (const [what, by, fault] of broken) {
      const changed = text.replace(what, by)
      assert.notEqual(changed, text, String(what))
      let faults = ''
      try {
        faults = faultsOf(changed).join('; ') || 'ADD: not seen'
      } catch (err) {
        faults = String(err)
      }
      assert.match(faults, fault)
    }
  })

  test('opens the ports on which a relay listens when nothing is configured', () => {
    const listening = BOOTSTRAP_DEFAULTS.listen.map((address) => Number(/\/tcp\/(\d+)/.exec(address)?.[1]))
    const ports = [...listening, ...spliceAddresses(BOOTSTRAP_DEFAULTS).map(({ port }) => port)]
    assert.deepEqual(parseDockerfile(text).stages.at(-1)?.ports, [...new Set(ports)].sort((a, b) => a - b))
  })

  test('copies what the context lets in, and nothing else is let in', () => {
    const [first, ...others] = readFileSync(join(ROOT, 'deploy', 'Dockerfile.dockerignore'), 'utf8').split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    assert.equal(first, '*')
    const wanted = parseDockerfile(text).stages.flatMap(({ steps }) => steps).flatMap((step) => step.kind === 'copy' && step.from === undefined ? step.sources : [])
    for (const source of wanted) assert.ok(existsSync(join(ROOT, source)), source)
    assert.deepEqual([...new Set(wanted.map((source) => source.split('/')[0]))].sort(), others.map((line) => line.replace(/^!/, '')).sort())
  })
})

describe('the image', requirement('deploy', cleanRootObstacle()), () => {
  let roots: CleanRoots | undefined
  let image: PerformedImage | undefined
  after(async () => { await roots?.close() })

  test('its steps succeed in a clean root; what ships has no sources, no npm cache and no development packages', { timeout: 500_000 }, async (t) => {
    roots = await openCleanRoots()
    image = await performImage(roots, parseDockerfile(text), ROOT)
    const list = await mustRun('find', ['/app', '/root', '/data'], { place: image.root.place(), env: insideEnvironment() })
    for (const wanted of ['/app/dist/bin/carrier-bootstrap.js', '/app/bin/carrier-bootstrap.js', '/app/node_modules/libp2p/package.json']) assert.ok(list.includes(`${wanted}\n`), wanted)
    for (const unwanted of ['/app/node_modules/typescript', '/app/node_modules/eslint', '/app/node_modules/.bin/tsc', '/app/src', '_cacache', '.d.ts.map\n']) assert.ok(!list.split('\n').filter((line) => unwanted !== '.d.ts.map\n' || line.startsWith('/app/dist')).some((line) => line.includes(unwanted.trim())), unwanted)
    const kilobytes = Number((await mustRun('du', ['-sk', '/app'], { place: image.root.place(), env: insideEnvironment() })).split('\t')[0])
    t.diagnostic(`${Math.round(kilobytes / 1000)} MB over the base`)
    assert.ok(kilobytes < 150_000, `${kilobytes} kB`)
    // a new volume takes owner and mode from here
    assert.equal(await mustRun('stat', ['-c', '%a %u:%g', '/data'], { place: image.root.place(), env: insideEnvironment() }), `700 ${image.stage.user}\n`)
    const writable = await mustRun('find', ['/app', '-user', '1000', '-o', '-perm', '-002', '!', '-type', 'l'], { place: image.root.place(), env: insideEnvironment() })
    assert.equal(writable, '', 'the program is not its user\'s to change')
  })

  test('a relay runs in it: not root, disk read-only but for /data, health check, SIGTERM ends it with 0, its identity stays', { timeout: 300_000 }, async () => {
    assert.ok(image !== undefined && roots !== undefined, 'the image was made')
    const { root, stage } = image
    await mustRun('mount', ['-o', 'remount,ro', root.directory], { place: root.outside })
    await root.mount('-t', 'tmpfs', '-o', 'uid=1000,gid=1000,mode=0700', 'tmpfs', join(root.directory, 'data'))
    const first = await runOnce(image, stage)
    const second = await runOnce(image, stage)
    assert.equal(second, first, 'the PeerId is the volume\'s')
    await mustRun('umount', [join(root.directory, 'data')], { place: root.outside })
  })

  test('a volume that belongs to root and the pod\'s group, as Kubernetes makes it, serves with a directory below', { timeout: 300_000 }, async () => {
    assert.ok(image !== undefined, 'the image was made')
    const { root, stage } = image
    await root.mount('-t', 'tmpfs', '-o', 'uid=0,gid=1000,mode=2775', 'tmpfs', join(root.directory, 'data'))
    await runOnce(image, { ...stage, env: { ...stage.env, CARRIER_BOOTSTRAP_DATA_DIR: '/data/relay' } })
    const listing = await mustRun('stat', ['-c', '%a %U %n', '/data/relay', '/data/relay/identity.key'], { place: root.place(), env: insideEnvironment() })
    // the group's bit is inherited; it lets nobody in
    assert.match(listing, /^2?700 node \/data\/relay\n600 node \/data\/relay\/identity\.key\n$/)
    await mustRun('umount', [join(root.directory, 'data')], { place: root.outside })
  })
})

/** Starts the image's program, looks at its health and ends it; gives its PeerId. */
async function runOnce ({ root, cwd }: PerformedImage, stage: DockerStage): Promise<string> {
  const env = insideEnvironment({ ...stage.env, HOME: '/home/node' })
  const user = stage.user ?? '0:0'
  const [command = '', ...args] = stage.entrypoint ?? []
  const relay = startProgram(command, args, { place: root.place({ user, cwd, isFirstProcess: true }), env, name: 'relay in the image' })
  const { peerId } = JSON.parse(await relay.line(0)) as { peerId: string }
  const [probe = '', ...probeArgs] = stage.healthcheck ?? []
  const inside = { place: root.place({ user, cwd }), env }
  await waitFor('the health check', async () => (await runProgram(probe, probeArgs, inside)).exitCode === 0, PATIENT)
  const ready = await mustRun('wget', ['-q', '-O', '-', 'http://127.0.0.1:9180/readyz'], inside)
  assert.equal(ready, 'ready\n')
  const pid = await firstProcess(relay)
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  assert.match(status, /^Uid:\s+1000\s+1000\s+1000\s+1000$/m)
  assert.match(status, /^CapEff:\s+0+$/m)
  assert.match(status, /^NSpid:\s+\d+\s+1$/m)
  for (const path of ['/app/x', '/x', '/etc/x', '/tmp/x']) assert.notEqual((await runProgram('touch', [path], inside)).exitCode, 0, path)
  process.kill(pid, 'SIGTERM')
  assert.deepEqual(await within('the end', PATIENCE_MS, relay.exited), { code: 0, signal: null }, relay.stderr())
  assert.notEqual((await runProgram(probe, probeArgs, inside)).exitCode, 0, 'the health check sees that it is gone')
  return peerId
}
