/** A process of its own for crash tests: appends to the audit log of argv[2] for ever and prints the number of each entry that was promised durable. */
import { createAuditLog } from '../../src/audit/index.ts'
import { createMetrics, silentLogger, systemClock } from '../../src/base/index.ts'

const directory = process.argv[2] ?? ''
const audit = createAuditLog({ clock: systemClock, log: silentLogger, metrics: createMetrics() }, { directory })
await audit.start()
for (let count = 1; ; count += 3) {
  await Promise.all([0, 1, 2].map(async (offset) => { await audit.record({ event: 'conn.open', count: count + offset }) }))
  process.stdout.write(`${count + 2}\n`)
}
