/** The README's commands do what it says: its sh blocks run in order, in one shell, as a reader would paste them. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'node:test'

const root = join(import.meta.dirname, '..', '..')
const DEADLINE_MS = 400_000

/** Something must answer where the README's PostgreSQL would be; if one runs there, all the better. */
async function ensureListener (port: number): Promise<() => void> {
  const server = createServer((socket) => { socket.on('error', () => { /* the other end may reset */ }).end() })
  return new Promise((resolve, reject) => {
    server.once('error', (err: NodeJS.ErrnoException) => {
      if (err.code === 'EADDRINUSE') resolve(() => {})
      else reject(err)
    })
    server.listen(port, '127.0.0.1', () => { resolve(() => { server.close() }) })
  })
}

/** A script that stops half-way leaves its detached daemons behind. */
function killDaemons (home: string): void {
  for (const path of globSync(join(home, '.carrier-*', 'lock.pid'))) {
    try {
      const pid = Number(readFileSync(path, 'utf8'))
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(home)) process.kill(pid, 'SIGKILL')
    } catch {
      // it has ended by itself
    }
  }
}

test('the commands of the README run as they are printed', { timeout: DEADLINE_MS + 30_000 }, async (t) => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const blocks = [...readme.matchAll(/^```sh\n([^]*?)^```$/gm)].map((match) => match[1] ?? '')
  assert.ok(blocks.length >= 5)
  const home = mkdtempSync(join(tmpdir(), 'carrier-readme-'))
  const closeListener = await ensureListener(5432)
  t.after(() => {
    closeListener()
    killDaemons(home)
    rmSync(home, { recursive: true, force: true })
  })
  const script = `set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n${blocks.join('\n')}\necho README-DONE\n`
  const env = { ...process.env, HOME: home, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` }
  const child = spawn('bash', ['-c', script], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  // the whole process group, so that nothing survives a failed run
  t.after(() => { try { process.kill(-(child.pid ?? 0), 'SIGKILL') } catch { /* it has ended by itself */ } })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { output += text })
  const code = await new Promise<number | string>((resolve) => {
    const timer = setTimeout(() => { resolve('the deadline') }, DEADLINE_MS)
    child.on('close', (exitCode) => {
      clearTimeout(timer)
      resolve(exitCode ?? 'a signal')
    })
  })
  assert.equal(code, 0, `ended with ${code}:\n${output}`)
  assert.match(output, /README-DONE/)
  assert.match(output, /refused with exit code 3/)
  t.diagnostic(output)
})
