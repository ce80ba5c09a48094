import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireStateLock } from '../../../src/base/index.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

async function startHolder (directory: string): Promise<ChildProcess> {
  const main = join(import.meta.dirname, '..', '..', 'support', 'lock-holder-main.ts')
  const child = spawn(process.execPath, ['--conditions=carrier-source', main, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return child
}

async function kill (child: ChildProcess): Promise<void> {
  const closed = once(child, 'close')
  child.kill('SIGKILL')
  await closed
}

test('I7: a second process on a data directory is refused with the pid of the first, and kill -9 frees the lock', async () => {
  const directory = makeTempDirectory('lock')
  const holder = await startHolder(directory)
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      assert.throws(() => acquireStateLock(directory), (err: Error & { code?: string }) => {
        assert.equal(err.code, 'ERR_ALREADY_RUNNING')
        assert.ok(err.message.includes(`pid ${holder.pid}`), err.message)
        assert.ok(err.message.includes(directory), err.message)
        assert.match(err.message, /carrier down/)
        return true
      })
    }
  } finally {
    await kill(holder)
  }
  acquireStateLock(directory).release()
})

test('I7: while we hold the lock another process is refused', async () => {
  const directory = makeTempDirectory('lock')
  const lock = acquireStateLock(directory)
  const main = join(import.meta.dirname, '..', '..', 'support', 'lock-holder-main.ts')
  const child = spawn(process.execPath, ['--conditions=carrier-source', main, directory], { stdio: ['ignore', 'ignore', 'pipe'], timeout: 60_000, killSignal: 'SIGKILL' })
  let output = ''
  child.stderr.on('data', (chunk: Buffer) => { output += chunk.toString() })
  const [code] = await once(child, 'close') as [number | null]
  assert.equal(code, 1)
  assert.ok(output.includes(`another process (pid ${process.pid})`), output)
  lock.release()
})

test('the same process cannot take the lock twice, and can after it was released', () => {
  const directory = makeTempDirectory('lock')
  const lock = acquireStateLock(directory)
  assert.throws(() => acquireStateLock(directory), { code: 'ERR_ALREADY_RUNNING' })
  lock.release()
  lock.release()
  const again = acquireStateLock(directory)
  assert.throws(() => acquireStateLock(directory), { code: 'ERR_ALREADY_RUNNING' }, 'releasing the old lock twice did not free the new one')
  again.release()
})

test('the lock of one directory is none of another\'s business, and its files are the owner\'s alone', () => {
  const [one, two] = [makeTempDirectory('lock'), makeTempDirectory('lock')]
  const locks = [acquireStateLock(one), acquireStateLock(two)]
  for (const name of ['lock.db', 'lock.pid']) assert.equal(statSync(join(one, name)).mode & 0o777, 0o600, name)
  for (const lock of locks) lock.release()
})

test('a directory that cannot be locked at all is no other process', () => {
  assert.throws(() => acquireStateLock(join(makeTempDirectory('lock'), 'missing')), { code: 'ERR_DATABASE', message: /cannot be locked .*check that it exists/ })
})
