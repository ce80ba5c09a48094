import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ensurePrivateDirectory, readFileIfExists, removeStaleTemporaries, writePrivateFile } from '../../../src/base/index.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

test('a private directory is made with its parents, and one that others may enter is closed to them', async () => {
  const directory = join(makeTempDirectory('private'), 'a', 'b')
  await ensurePrivateDirectory(directory)
  assert.equal(statSync(directory).mode & 0o777, 0o700)
  chmodSync(directory, 0o755)
  await ensurePrivateDirectory(directory)
  assert.equal(statSync(directory).mode & 0o777, 0o700)
})

test('a file where the directory should be is an error', async () => {
  const path = join(makeTempDirectory('private'), 'file')
  writeFileSync(path, '')
  await assert.rejects(ensurePrivateDirectory(path))
})

test('I7: a private file is replaced as a whole, is the owner\'s alone, and leaves no temporary file', async () => {
  const directory = makeTempDirectory('private')
  const path = join(directory, 'secret')
  await writePrivateFile(path, 'old')
  await writePrivateFile(path, new TextEncoder().encode('new'))
  assert.equal(readFileSync(path, 'utf8'), 'new')
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.deepEqual(readdirSync(directory), ['secret'])
})

test('I7: writers at the same time leave one whole content', async () => {
  const directory = makeTempDirectory('private')
  const path = join(directory, 'secret')
  const contents = Array.from({ length: 10 }, (_, index) => String(index).repeat(10_000))
  await Promise.all(contents.map(async (content) => { await writePrivateFile(path, content) }))
  assert.ok(contents.includes(readFileSync(path, 'utf8')))
  assert.deepEqual(readdirSync(directory), ['secret'])
})

test('a file that does not exist reads as undefined, one that cannot be read is an error', async () => {
  const directory = makeTempDirectory('private')
  assert.equal(await readFileIfExists(join(directory, 'nothing')), undefined)
  await assert.rejects(readFileIfExists(directory))
  writeFileSync(join(directory, 'file'), 'x')
  assert.deepEqual(await readFileIfExists(join(directory, 'file')), Uint8Array.of(0x78))
})

test('I7: only temporary files of ours are removed after a crash', async () => {
  const directory = makeTempDirectory('private')
  const keep = ['identity.key', 'notes.tmp', 'x.0123456789AB.tmp', 'x.0123456789ab.tmp.bak', '0123456789ab.tmp']
  for (const name of [...keep, 'identity.key.0123456789ab.tmp', 'config.ffffffffffff.tmp']) writeFileSync(join(directory, name), '')
  mkdirSync(join(directory, 'sub'))
  await removeStaleTemporaries(directory, readdirSync(directory))
  assert.deepEqual(readdirSync(directory).sort(), [...keep, 'sub'].sort())
})
