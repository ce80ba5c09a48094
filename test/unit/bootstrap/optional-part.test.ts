/** A part of a relay that runs only while the configuration wants it: also when starting it fails or lasts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOptionalPart } from '../../../src/bootstrap/optional-part.ts'

test('a start that failed is tried again when it is wanted again, and nothing that does not run is stopped', async () => {
  const calls: string[] = []
  let isBroken = true
  const part = createOptionalPart({
    start: async () => {
      calls.push('start')
      if (isBroken) throw new Error('the disk is full')
    },
    stop: async () => { calls.push('stop') }
  }, false)
  await part.start()
  await assert.rejects(part.setWanted(true), /the disk is full/)
  await part.setWanted(false)
  assert.deepEqual(calls, ['start'])
  isBroken = false
  await part.setWanted(true)
  await part.setWanted(true)
  await part.stop()
  assert.deepEqual(calls, ['start', 'start', 'stop'])
})

test('a stop waits for a start that lasts, and ends what came of it', async () => {
  const calls: string[] = []
  const opened = Promise.withResolvers<void>()
  const part = createOptionalPart({
    start: async () => {
      calls.push('start')
      await opened.promise
      calls.push('started')
    },
    stop: async () => { calls.push('stop') }
  }, false)
  await part.start()
  const wanting = part.setWanted(true)
  const stopping = part.stop()
  opened.resolve()
  await Promise.all([wanting, stopping])
  assert.deepEqual(calls, ['start', 'started', 'stop'])
})
