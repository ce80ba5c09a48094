/**
 * A relay under every attack in the long form: `node --conditions=carrier-source test/hostile/hostile-main.ts [--rounds 3] [--window 15] [--keys 667] [--only WORD]`.
 * `--keys`: reservation requests from fresh keys in a second, 10,000 in a window of 15 s. Prints the table of the operator's guide; ends with 1 when the relay complained or died,
 * an honest transfer ended, a refusal was not counted, or not all keys were sent.
 */
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { ATTACKS } from './attacks.ts'
import { rowOf, runHostile, TABLE_HEAD } from './hostile-scenario.ts'
import { judgeFresh, judgeSound } from './judge.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '3' }, window: { type: 'string', default: '15' }, keys: { type: 'string', default: '667' }, only: { type: 'string', default: '' } } })
const attacks = ATTACKS.filter(({ name }) => name.includes(values.only))
const result = await runHostile({ attacks, rounds: Number(values.rounds), windowMs: 1000 * Number(values.window), keysPerSecond: Number(values.keys), report: (line) => { console.error(line) } })
const { results, lostWays, complaints } = result
console.log(`measured on ${cpus().length} × ${cpus()[0]?.model.trim() ?? 'processor'}, Node ${process.version}; ${values.rounds} pairs of runs of ${values.window} s for each attack, medians of the shares

${TABLE_HEAD}
${results.map(rowOf).join('\n')}`)
for (const { attack, seen, counted } of results) console.error(JSON.stringify({ attack: attack.name, seen, counted }))
for (const line of complaints) console.error(`the relay said: ${line}`)
for (const way of lostWays) console.error(`an honest ${way} ended`)
judgeFresh(result, Math.floor(Number(values.rounds) * Number(values.window) * Number(values.keys)))
judgeSound(result)
process.exit(lostWays.length === 0 && results.every(({ isSound }) => isSound) ? 0 : 1)
