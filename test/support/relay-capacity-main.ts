/**
 * Measures what a relay carries on this machine and prints the sizing table of the operator's guide:
 * `node --conditions=carrier-source test/support/relay-capacity-main.ts [--peers 2000] [--hold 300] [--splices 200] [--megabytes 4000]`.
 * Ends with 1 when peers were lost or memory was not flat while they were held.
 */
import { cpus, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { measureCapacity } from './relay-capacity.ts'

const { values } = parseArgs({ options: { peers: { type: 'string', default: '2000' }, hold: { type: 'string', default: '300' }, splices: { type: 'string', default: '200' }, megabytes: { type: 'string', default: '4000' } } })
/** What memory may grow while nothing happens: collections never end at the same byte. */
const FLAT_MEGABYTES = 8

const result = await measureCapacity({ peers: Number(values.peers), holdSeconds: Number(values.hold), splices: Number(values.splices), megabytes: Number(values.megabytes), report: (line) => { console.error(line) } })
console.log(`measured on ${cpus().length} × ${cpus()[0]?.model.trim() ?? 'processor'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}

| | |
|---|---|
| the process with nobody | ${result.emptyResidentMegabytes.toFixed(0)} MB |
| an idle reservation, with its connection | ${result.kilobytesPerReservation.toFixed(0)} kB; ${result.reservationsPerGib.toLocaleString('en-US')} in a GiB |
| ${result.peers.toLocaleString('en-US')} of them, held for ${values.hold} s | ${result.peersLeft.toLocaleString('en-US')} left; heap ${signed(result.heapGrowthMegabytes)} MB after collection, highest resident ${signed(result.residentGrowthMegabytes)} MB in the second half; ${result.idleLoadPercent.toFixed(1)} % of one processor |
| an idle splice | ${result.kilobytesPerSplice.toFixed(0)} kB |
| a GB through a splice | ${result.spliceSecondsPerGigabyte.toFixed(2)} s of one processor |
| a GB through a circuit | ${result.circuitSecondsPerGigabyte.toFixed(2)} s of one processor |`)
const isFlat = result.heapGrowthMegabytes <= FLAT_MEGABYTES && result.residentGrowthMegabytes <= 2 * FLAT_MEGABYTES
if (result.peersLeft < result.peers) console.error(`${result.peers - result.peersLeft} peers were lost`)
if (!isFlat) console.error('memory was not flat')
// what peers and nodes leave to be collected is nobody's business any more
process.exit(result.peersLeft === result.peers && isFlat ? 0 : 1)

function signed (megabytes: number): string {
  return `${megabytes >= 0 ? '+' : '−'}${Math.abs(megabytes).toFixed(1)}`
}
