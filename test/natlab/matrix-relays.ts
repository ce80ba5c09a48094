/** Relays of a cell, behind the door that both homes can pass, and what a daemon has to know to use it. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BootstrapReport } from '../support/bootstrap.ts'
import { createTestAuthority } from '../support/certificate-authority.ts'
import { carrierFreeEnvironment, ROOT } from '../support/daemon.ts'
import { startProgram } from '../support/program.ts'
import type { Place } from '../support/program.ts'
import type { RelayDoor } from './matrix-routes.ts'

/** Relays that run; they end with the lab. */
export interface CellRelays {
  addresses: string[]
  /** What carrier.toml of a daemon must say to trust them; undefined: nothing. */
  settings: string | undefined
}

/** Where relays listen for each door. */
const LISTEN: Readonly<Record<RelayDoor, string>> = { tcp: 'tcp/4001', tcp443: 'tcp/443', wss443: 'tcp/443/tls/ws' }
const START_MS = 60_000

/** Starts one relay at each place. */
export async function startCellRelays (places: readonly Place[], directory: string, door: RelayDoor): Promise<CellRelays> {
  const authority = door === 'wss443' ? await createTestAuthority() : undefined
  const addresses = await Promise.all(places.map(async (place) => {
    const home = join(directory, place.name)
    mkdirSync(home, { mode: 0o700 })
    const certificate = await authority?.issue([place.address])
    const tls = certificate === undefined ? [] : ['--tls-cert', write(home, 'cert.pem', certificate.cert), '--tls-key', write(home, 'key.pem', certificate.key)]
    const listen = `/ip4/${place.address}/${LISTEN[door]}`
    const program = startProgram(process.execPath, ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--data-dir', join(home, 'data'), '--listen', listen, '--health', '127.0.0.1:0', ...tls], { place, env: carrierFreeEnvironment(), name: `relay at ${place.address}` })
    const { peerId } = JSON.parse(await program.line(0, START_MS)) as BootstrapReport
    return `${listen}/p2p/${peerId}`
  }))
  return { addresses, settings: authority === undefined ? undefined : `[network]\nca_file = "${write(directory, 'authority.pem', authority.certificatePem)}"\n` }
}

function write (directory: string, name: string, text: string): string {
  const file = join(directory, name)
  writeFileSync(file, text, { mode: 0o600 })
  return file
}
