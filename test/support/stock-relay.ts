/** Runs stock relays as child processes: start, kill -9, start again with the same key and port. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { freePort } from './free-port.ts'
import { onTestExit } from './program.ts'
import { PATIENCE_MS, within } from './wait.ts'

/** A relay whose address is known before it runs. */
export interface StockRelay {
  address: string
  peerId: string
  /** Resolves when it listens. */
  start: () => Promise<void>
  /** kill -9; resolves when it is gone. Idempotent. */
  kill: () => Promise<void>
  /** SIGSTOP and SIGCONT: connections stay, nothing answers. */
  freeze: () => void
  thaw: () => void
}

/** Prepares a relay with a key made from `name` on a free port of 127.0.0.1; nothing runs yet. */
export async function prepareStockRelay (name: string): Promise<StockRelay> {
  return prepare(name, [])
}

/** The same as the package has it by default: each circuit ends after 128 KiB or 2 minutes. */
export async function prepareLimitedStockRelay (name: string): Promise<StockRelay> {
  return prepare(name, ['limited'])
}

/** A stock relay that ends each circuit after this time, however little it carried. */
export async function prepareBriefStockRelay (name: string, circuitMs: number): Promise<StockRelay> {
  return prepare(name, ['duration', String(circuitMs)])
}

async function prepare (name: string, limits: readonly string[]): Promise<StockRelay> {
  const seed = createHash('sha256').update(`stock-relay ${name} ${process.pid}`).digest()
  const peerId = peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', new Uint8Array(seed))).toString()
  const port = await freePort()
  let child: ChildProcess | undefined
  return {
    peerId,
    address: `/ip4/127.0.0.1/tcp/${port}/p2p/${peerId}`,
    start: async () => {
      const started = spawn(process.execPath, ['--conditions=carrier-source', join(import.meta.dirname, 'stock-relay-main.ts'), String(port), seed.toString('hex'), ...limits], { stdio: ['ignore', 'pipe', 'inherit'] })
      child = started
      onTestExit(() => { started.kill('SIGKILL') })
      await within('the relay to listen', PATIENCE_MS, once(createInterface(started.stdout), 'line'))
    },
    kill: async () => {
      const running = child
      child = undefined
      if (running === undefined || running.exitCode !== null) return
      const exited = once(running, 'exit')
      running.kill('SIGKILL')
      await exited
    },
    freeze: () => { child?.kill('SIGSTOP') },
    thaw: () => { child?.kill('SIGCONT') }
  }
}
