import assert from 'node:assert/strict'
import test from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { createHintNames } from '../../../src/node/hint-names.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

function namesOf (): { names: ReturnType<typeof createHintNames>, asked: Array<PromiseWithResolvers<readonly string[]> & { name: string }>, clock: ReturnType<typeof createFakeClock> } {
  const clock = createFakeClock()
  const asked: Array<PromiseWithResolvers<readonly string[]> & { name: string }> = []
  const names = createHintNames({
    clock,
    ask: async (name) => {
      const answer = { ...Promise.withResolvers<readonly string[]>(), name }
      asked.push(answer)
      return answer.promise
    }
  })
  return { names, asked, clock }
}

test('one name is asked at a time, the same one once, and a failure ends nobody else\'s', async () => {
  const { names, asked, clock } = namesOf()
  const [first, again, second] = [names('a.example', 4), names('A.example', 4), names('b.example', 0)]
  void Promise.allSettled([first, again, second])
  await clock.advance(0)
  assert.deepEqual(asked.map(({ name }) => name), ['a.example'])
  asked[0]?.reject(new Error('ENOTFOUND'))
  await assert.rejects(first, { code: 'ERR_PEER_OFFLINE' })
  await assert.rejects(again, { code: 'ERR_PEER_OFFLINE' })
  await clock.advance(0)
  assert.deepEqual(asked.map(({ name }) => name), ['a.example', 'b.example'])
  asked[1]?.resolve(['192.0.2.1'])
  assert.deepEqual(await second, ['192.0.2.1'])
})

test('what led nowhere is not asked again soon; what led somewhere is', async () => {
  const { names, asked, clock } = namesOf()
  const lost = names('a.example', 4)
  await clock.advance(0)
  asked[0]?.resolve([])
  assert.deepEqual(await lost, [])
  const again = Array.from({ length: 100 }, async () => names('a.example', 4))
  void Promise.allSettled(again)
  await clock.advance(0)
  assert.equal(asked.length, 1)
  for (const one of again) await assert.rejects(one, { code: 'ERR_PEER_OFFLINE' })
  await clock.advance(LIMITS.hintNameAgainMs)
  for (const index of [1, 2]) {
    const found = names('a.example', 4)
    await clock.advance(0)
    asked[index]?.resolve(['192.0.2.1'])
    assert.deepEqual(await found, ['192.0.2.1'])
  }
})

test('so many names wait and no more', async () => {
  const { names, asked, clock } = namesOf()
  const waiting = Array.from({ length: LIMITS.hintNameCount }, async (_, index) => names(`${index}.example`, 4))
  void Promise.allSettled(waiting)
  await assert.rejects(names('more.example', 4), { code: 'ERR_LIMIT' })
  for (const index of waiting.keys()) {
    await clock.advance(0)
    assert.equal(asked.length, index + 1)
    asked[index]?.reject(new Error('ENOTFOUND'))
    await assert.rejects(waiting[index] as Promise<unknown>)
  }
  // what failed is remembered within a bound too
  for (let index = 0; index < 2 * LIMITS.hintNameCount; index++) {
    const lost = names(`${index}.other.example`, 4)
    await clock.advance(0)
    asked.at(-1)?.resolve([])
    await lost
  }
  void names('0.example', 4).catch(() => { /* never answered */ })
  await clock.advance(0)
  assert.equal(asked.at(-1)?.name, '0.example')
})
