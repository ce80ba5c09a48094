/** A process of its own for lock tests: takes the state lock of argv[2], says so, and holds it until it is killed. */
import { acquireStateLock } from '../../src/base/index.ts'

acquireStateLock(process.argv[2] ?? '')
process.stdout.write('held\n')
setInterval(() => {}, 1000)
