/** deploy/nginx/carrier-wss.conf with a real nginx: friends meet over WSS through it, and a renewed certificate costs no connection. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { connect } from 'node:tls'
import { multiaddr } from '@multiformats/multiaddr'
import { pipe } from 'it-pipe'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap } from '../../src/bootstrap/index.ts'
import { findFreePort } from '../support/bootstrap.ts'
import { createTestAuthority } from '../support/certificate-authority.ts'
import type { TestCertificate } from '../support/certificate-authority.ts'
import { ROOT } from '../support/daemon.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { startProgram } from '../support/program.ts'
import type { Program } from '../support/program.ts'
import { requirement } from '../support/requirement.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

const ECHO = '/carrier/test-echo/1.0.0'
const MIB = 1024 * 1024
const NAME = 'localhost'
const site = readFileSync(join(ROOT, 'deploy', 'nginx', 'carrier-wss.conf'), 'utf8')

function obstacle (): string | undefined {
  return spawnSync('nginx', ['-v'], { stdio: 'pipe' }).status === 0 ? undefined : 'nginx does not run (Debian: nginx-light)'
}

/** A running nginx with our file in it; only names, files and ports are other ones. */
interface Nginx { port: number, program: Program, renew: (certificate: TestCertificate) => void }

async function startNginx (relayPort: number, certificate: TestCertificate): Promise<Nginx> {
  const port = await findFreePort()
  const directory = makeTempDirectory('nginx')
  const files = { cert: join(directory, 'fullchain.pem'), key: join(directory, 'privkey.pem') }
  const write = ({ cert, key }: TestCertificate): void => {
    writeFileSync(files.cert, cert)
    writeFileSync(files.key, key, { mode: 0o600 })
  }
  write(certificate)
  const changed = [
    ['listen 443 ssl;', `listen 127.0.0.1:${port} ssl;`],
    ['    listen [::]:443 ssl;\n', ''],
    ['server 127.0.0.1:4003;', `server 127.0.0.1:${relayPort};`],
    ['server_name relay.example.org;', `server_name ${NAME};`],
    ['/etc/letsencrypt/live/relay.example.org/fullchain.pem', files.cert],
    ['/etc/letsencrypt/live/relay.example.org/privkey.pem', files.key]
  ].reduce((text, [from = '', to = '']) => {
    const [before, ...rest] = text.split(from)
    assert.ok(rest.length > 0, `${from} is in the file`)
    return [before, ...rest].join(to)
  }, site)
  writeFileSync(join(directory, 'site.conf'), changed)
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${join(directory, kind)};`).join(' ')
  mkdirSync(join(directory, 'logs'))
  writeFileSync(join(directory, 'nginx.conf'), `daemon off; worker_processes 1; pid ${join(directory, 'nginx.pid')}; error_log stderr warn;\nevents {}\nhttp { access_log off; ${temporary} include ${join(directory, 'site.conf')}; }\n`)
  const program = startProgram('nginx', ['-p', directory, '-e', 'stderr', '-c', join(directory, 'nginx.conf')], { name: 'nginx' })
  await waitFor('nginx to answer', () => {
    assert.equal(program.hasExited(), false, program.stderr())
    return fingerprintOf(port)
  }, PATIENT)
  return { port, program, renew: (next) => { write(next); process.kill(program.pid, 'SIGHUP') } }
}

/** The fingerprint of the certificate that a fresh connection is shown. */
async function fingerprintOf (port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, servername: NAME, rejectUnauthorized: false })
  try {
    return await new Promise((resolve, reject) => {
      socket.once('secureConnect', () => { resolve(socket.getPeerCertificate().fingerprint256) })
      socket.once('error', reject)
    })
  } finally {
    socket.destroy()
  }
}

async function assertEchoes (from: TestNode, to: TestNode, byteCount: number): Promise<void> {
  const { stream } = await within('a stream', PATIENCE_MS, from.node.openStream(to.did, ECHO))
  const sent = randomBytes(byteCount)
  const received = createHash('sha256')
  await within('the echo', 2 * PATIENCE_MS, Promise.all([
    pipe((async function * () { for (let at = 0; at < sent.length; at += 65_536) yield new Uint8Array(sent.subarray(at, at + 65_536)) })(), stream.sink),
    (async () => { for await (const chunk of stream.source) received.update(chunk) })()
  ]))
  assert.equal(received.digest('hex'), createHash('sha256').update(sent).digest('hex'))
}

describe('nginx in front of a relay', requirement('deploy', obstacle()), () => {
  const nodes: TestNode[] = []
  let relay: Bootstrap | undefined
  let nginx: Nginx | undefined
  after(async () => {
    for (const { node } of nodes) await node.stop()
    await nginx?.program.stop()
    await relay?.stop()
  })

  test('friends reserve and meet over WSS through it; a renewed certificate is shown to new connections and ends none', { timeout: 240_000 }, async () => {
    const authority = await createTestAuthority()
    relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0/ws'], splice: 'off' })
    await relay.start()
    const relayPort = Number(multiaddr(relay.addresses()[0] ?? '').getComponents().find((part) => part.name === 'tcp')?.value)
    nginx = await startNginx(relayPort, await authority.issue([NAME]))
    const address = `/dns/${NAME}/tcp/${nginx.port}/wss/p2p/${relay.peerId.toString()}`
    const [office, laptop] = await Promise.all([0, 1].map(async () => makeNode({ relays: [address], upstream: { extraCertificates: authority.certificatePem } })))
    assert.ok(office !== undefined && laptop !== undefined)
    nodes.push(office, laptop)
    befriend(office, laptop)
    const changes: string[] = []
    for (const { node } of nodes) {
      node.handle(ECHO, async (stream) => { await pipe(stream.source, stream.sink) }, { levels: ['friend'], maxStreamsPerPeer: 4 })
      node.on('relay:state', ({ state }) => { changes.push(state) })
      await node.start()
    }
    await Promise.all(nodes.map(async (node) => reserved(node, PATIENCE_MS)))
    await assertEchoes(laptop, office, 8 * MIB)

    const before = await fingerprintOf(nginx.port)
    const seen = changes.length
    nginx.renew(await authority.issue([NAME]))
    const { port } = nginx
    await waitFor('the new certificate', async () => (await fingerprintOf(port)) !== before, PATIENT)
    await assertEchoes(laptop, office, MIB)
    assert.deepEqual(changes.slice(seen), [], 'no reservation was lost')

    const third = await makeNode({ relays: [address], upstream: { extraCertificates: authority.certificatePem } })
    nodes.push(third)
    befriend(third, office)
    await third.node.start()
    await reserved(third, PATIENCE_MS)
    await assertEchoes(third, office, 100_000)
  })
})
