/** Invariant I3 in the lab: what a stranger with the DID and the relay, but without an address, can find out. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, it } from 'node:test'
import { startPair } from '../support/friends-pair.ts'
import type { Pair } from '../support/friends-pair.ts'
import { mustRun } from '../support/program.ts'
import { median, printFigure } from '../support/statistics.ts'
import type { StrangerAnswer, StrangerInit } from '../support/stranger-main.ts'
import { startTcpService } from '../support/tcp-load.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { segmentsOf, startCapture } from './capture.ts'
import { openLab, UPLINK } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'

const ROUNDS = 5
const SERVICE = 'postgres'
const PROGRAM = join(import.meta.dirname, '..', 'support', 'stranger-main.ts')

describeInLab('a stranger who knows the DID and the relay, but no address', () => {
  let lab: Lab
  let pair: Pair
  let did: string
  let port: number

  before(async () => {
    lab = await openLab()
    port = (await startTcpService({ place: lab.office })).port
    pair = await startPair(lab)
    did = (await pair.befriend()).officeDid
  })
  after(async () => {
    await pair?.stop()
    await lab?.close()
  })

  it('I3: gets the same messages with the same byte counts whether the service exists or not', async () => {
    const seen = { exists: [] as StrangerAnswer[][], missing: [] as StrangerAnswer[][] }
    const wire = { exists: [] as number[], missing: [] as number[] }
    for (let round = 0; round < ROUNDS; round++) {
      for (const state of ['exists', 'missing'] as const) {
        if (state === 'exists') await pair.office.json('serve', SERVICE, String(port), '--allow', 'laptop')
        else await pair.office.json('unserve', SERVICE)
        const { answers, receivedBytes } = await ask()
        seen[state].push(answers)
        wire[state].push(receivedBytes)
      }
    }
    const [first] = seen.exists
    assert.ok(first !== undefined)
    for (const answers of [...seen.exists, ...seen.missing]) assert.deepEqual(withoutTimes(answers), withoutTimes(first))
    // an answer with content would tell a stranger something; a session or an unknown protocol gives none at all
    assert.deepEqual(first.slice(1).map((answer) => [answer.outcome, answer.receivedBytes]), [[first[2]?.outcome, []], [first[2]?.outcome, []]])
    for (const [index, { question, outcome }] of first.entries()) {
      const time = (state: 'exists' | 'missing'): number => median(seen[state].map((answers) => answers[index]?.elapsedMs ?? Number.NaN))
      printFigure(`stranger asks for ${question} (${outcome}): service exists`, time('exists'), 'ms')
      printFigure(`stranger asks for ${question} (${outcome}): service missing`, time('missing'), 'ms')
    }
    // whole connections, with pings and identify in them: printed, their noise is no secret
    printFigure('bytes on the stranger\'s wire: service exists', median(wire.exists), 'bytes')
    printFigure('bytes on the stranger\'s wire: service missing', median(wire.missing), 'bytes')
  })

  async function ask (): Promise<{ answers: StrangerAnswer[], receivedBytes: number }> {
    const init: StrangerInit = { did, relay: pair.relays[0]?.address() ?? '', dataDirectory: makeTempDirectory('stranger'), service: SERVICE }
    const capture = await startCapture(lab.cafe, UPLINK)
    const output = await mustRun(process.execPath, ['--conditions=carrier-source', PROGRAM, JSON.stringify(init)], { place: lab.cafe, deadlineMs: 60_000 })
    const segments = segmentsOf(await capture.stop()).filter((segment) => segment.to.startsWith(`${lab.cafe.address}:`))
    return { answers: JSON.parse(output) as StrangerAnswer[], receivedBytes: segments.reduce((sum, segment) => sum + segment.payload.length, 0) }
  }
})

function withoutTimes (answers: readonly StrangerAnswer[]): unknown {
  return answers.map(({ question, outcome, receivedBytes }) => ({ question, outcome, receivedBytes }))
}
