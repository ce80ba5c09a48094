/** The soak in short, for CI: its long form is `npm run test:soak`. */
import { it } from 'node:test'
import { describeInLab } from '../natlab/lab-obstacle.ts'
import { givenSeeds } from '../natlab/nemesis-plan.ts'
import { runSoak } from './soak-scenario.ts'

const MINUTES = 3
/** A change is judged by the faults that the one before it met; `npm run test:soak` draws others. */
const SEED = 20_261_122

describeInLab('soak', () => {
  it(`I4 I5 I8: ${MINUTES} min of gentle faults: no channel lies, nothing runs away, and the friends reach each other`, async () => {
    const [seed = SEED] = givenSeeds()
    console.log(`soak: seed ${seed} (repeat: npm test -- soak --seed ${seed})`)
    await runSoak({ minutes: MINUTES, seed, say: (line) => { console.log(`soak: ${line}`) } })
  })
})
