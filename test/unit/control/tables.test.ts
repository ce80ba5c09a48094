import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { z } from 'zod'
import { EVENTS, METHODS } from '../../../src/control/client/index.ts'

const methods = Object.entries(METHODS)

test('every method has a sentence, a path of its own, and input without anything unknown', () => {
  assert.equal(new Set(methods.map(([, { verb, path }]) => `${verb} ${path}`)).size, methods.length)
  for (const [name, { verb, path, about, input }] of methods) {
    assert.match(name, /^[a-z]+\.[a-z]+$/)
    assert.ok(about.length > 10 && !about.includes('|'), name)
    assert.match(path, /^\/v1\/[a-z/]+$/)
    assert.ok(!input.safeParse({ unknown: 1 }).success, name)
    // what a GET takes comes from a query: only text fits through it
    if (verb === 'GET') for (const [key, shape] of Object.entries<z.ZodType>(input.shape)) assert.ok(shape.safeParse('end').success, `${name} ${key}`)
  }
})

test('input is bounded before it reaches the engine', () => {
  for (const [name, { input }] of methods) {
    for (const key of Object.keys(input.shape)) {
      const filled = Object.fromEntries(Object.keys(input.shape).map((other) => [other, other === key ? 'x'.repeat(8192) : 'x']))
      assert.ok(!input.safeParse(filled).success, `${name} ${key}`)
    }
  }
})

test('every event is area:fact, has a sentence, and drops members that are no part of the API', () => {
  for (const [name, { about, payload }] of Object.entries(EVENTS)) {
    assert.match(name, /^[a-z]+:[a-z-]+$/)
    assert.ok(about.length > 5 && !about.includes('|'), name)
    assert.ok(!('internals' in payload.partial().parse({ internals: 1 })), name)
  }
})
