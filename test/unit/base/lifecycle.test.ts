import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEmitter, createLogger, createTaskOwner, silentLogger, startAll, stopAll } from '../../../src/base/index.ts'
import type { Logger, Startable } from '../../../src/base/index.ts'

function makePart (name: string, calls: string[], fail: { start?: boolean, stop?: boolean } = {}): Startable {
  return {
    start: async () => {
      calls.push(`start ${name}`)
      if (fail.start === true) throw new Error(`${name} does not start`)
    },
    stop: async () => {
      calls.push(`stop ${name}`)
      if (fail.stop === true) throw new Error(`${name} does not stop`)
    }
  }
}

function makeLogger (): { log: Logger, lines: string[] } {
  const lines: string[] = []
  return { lines, log: createLogger('test', { level: 'debug', sink: { write: (line) => { lines.push(line) } } }) }
}

test('parts start in order and stop in reverse', async () => {
  const calls: string[] = []
  const parts = ['a', 'b', 'c'].map((name) => makePart(name, calls))
  await startAll(parts)
  await stopAll(parts)
  assert.deepEqual(calls, ['start a', 'start b', 'start c', 'stop c', 'stop b', 'stop a'])
})

test('a start that fails undoes what was started, itself included, and tells its reason', async () => {
  const calls: string[] = []
  const parts = [makePart('a', calls), makePart('b', calls, { start: true }), makePart('c', calls)]
  await assert.rejects(startAll(parts), /b does not start/)
  assert.deepEqual(calls, ['start a', 'start b', 'stop b', 'stop a'])
})

test('the reason of a failed start is told even if undoing it fails too', async () => {
  const calls: string[] = []
  const parts = [makePart('a', calls, { stop: true }), makePart('b', calls, { start: true, stop: true })]
  await assert.rejects(startAll(parts), /b does not start/)
  assert.deepEqual(calls, ['start a', 'start b', 'stop b', 'stop a'])
})

test('a part that fails to stop does not keep the others from stopping', async () => {
  const calls: string[] = []
  const parts = [makePart('a', calls, { stop: true }), makePart('b', calls), makePart('c', calls, { stop: true })]
  await assert.rejects(stopAll(parts), /c does not stop/)
  assert.deepEqual(calls, ['stop c', 'stop b', 'stop a'])
})

test('a task owner waits for its tasks at stop, tells them to end, and takes no new ones', async () => {
  const { log, lines } = makeLogger()
  const owner = createTaskOwner(log)
  const seen: string[] = []
  owner.run('long', async (signal) => {
    await new Promise<void>((resolve) => { signal.addEventListener('abort', () => { resolve() }, { once: true }) })
    seen.push('ended')
    throw new Error('ended by stop')
  })
  await owner.stop()
  await owner.stop()
  owner.run('late', async () => { seen.push('late') })
  assert.deepEqual(seen, ['ended'])
  assert.deepEqual(lines, [], 'what fails because of the stop is not logged')
  assert.equal(owner.signal.aborted, true)
})

test('a task that fails is logged with its name', async () => {
  const { log, lines } = makeLogger()
  const owner = createTaskOwner(log)
  owner.run('dig', async () => { throw new Error('the spade broke') })
  await new Promise((resolve) => { setImmediate(resolve) })
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /task dig failed.*the spade broke|the spade broke.*task dig failed/)
  await owner.stop()
})

test('a listener that throws hurts neither the sender nor the other listeners', () => {
  const { log, lines } = makeLogger()
  const emitter = createEmitter<{ 'a:b': { n: number } }>(log)
  const seen: number[] = []
  emitter.on('a:b', () => { throw new Error('mine') })
  emitter.on('a:b', ({ n }) => { seen.push(n) })
  emitter.onAny((name, { n }) => { if (name === 'a:b') seen.push(n * 10) })
  emitter.emit('a:b', { n: 1 })
  assert.deepEqual(seen, [1, 10])
  assert.match(lines.join(''), /an event listener threw/)
})

test('a removed listener hears nothing more, also when it is removed during an event', () => {
  const emitter = createEmitter<{ 'a:b': { n: number } }>(silentLogger)
  const seen: string[] = []
  const remove = emitter.on('a:b', () => {
    seen.push('once')
    remove()
  })
  const removeAny = emitter.onAny(() => { seen.push('any') })
  emitter.emit('a:b', { n: 1 })
  removeAny()
  emitter.emit('a:b', { n: 2 })
  assert.deepEqual(seen, ['once', 'any'])
})
