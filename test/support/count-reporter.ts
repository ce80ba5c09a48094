/** A node:test reporter that writes one JSON line per finished test: result, name, file, duration. `test/run.ts` adds them up. */
import type { TestEvent } from 'node:test/reporters'

/** Turns runner events into JSON lines; suites are left out. */
export default async function * countReporter (source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue
    if (event.data.details.type === 'suite') continue
    const isFile = event.data.name === event.data.file || event.data.name.endsWith('.test.ts')
    if (isFile && event.type === 'test:pass') continue
    const skip = event.data.skip
    const result = event.type === 'test:fail' ? 'failed' : skip === undefined || skip === false ? 'passed' : 'skipped'
    yield JSON.stringify({ result, name: event.data.name, file: event.data.file, durationMs: Math.round(event.data.details.duration_ms), reason: skip }) + '\n'
  }
}
