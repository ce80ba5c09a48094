/** The soak in short, for CI: its long form is `npm run test:soak`. */
import { it } from 'node:test'
import { describeInLab } from '../natlab/lab-obstacle.ts'
import { nemesisSeeds } from '../natlab/nemesis-plan.ts'
import { runSoak } from './soak-scenario.ts'

const MINUTES = 3

describeInLab('soak', () => {
  it(`I4 I5 I8: ${MINUTES} min of gentle faults: no channel lies, nothing runs away, and the friends reach each other`, async () => {
    const [seed = 0] = nemesisSeeds(1)
    console.log(`soak: seed ${seed} (repeat: npm test -- soak --seed ${seed})`)
    await runSoak({ minutes: MINUTES, seed, say: (line) => { console.log(`soak: ${line}`) } })
  })
})
