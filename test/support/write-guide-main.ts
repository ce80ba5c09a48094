/** Writes the tables of deploy/GUIDE.md that are made from the code. test/deploy/footprint.test.ts compares them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRelay } from './bootstrap.ts'
import { ROOT } from './daemon.ts'
import { guideTables } from './guide-tables.ts'
import { makeTempDirectory } from './temp-directory.ts'

const path = join(ROOT, 'deploy', 'GUIDE.md')
const relay = await createRelay({ dataDirectory: makeTempDirectory('relay') })
const { health } = await relay.start()
const metrics = await (await fetch(`http://${health}/metrics`)).text()
await relay.stop()
let text = readFileSync(path, 'utf8')
for (const [name, rows] of Object.entries(guideTables(metrics))) {
  text = text.replace(new RegExp(`(<!-- ${name} -->\n)[^]*?(<!-- /${name} -->)`), (_, start: string, end: string) => `${start}${rows.join('\n')}\n${end}`)
}
writeFileSync(path, text)
