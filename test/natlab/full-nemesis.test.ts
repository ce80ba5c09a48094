/** Random faults under a load. CARRIER_NEMESIS_SEED (or `npm test -- nemesis --seed N,…`) repeats draws. */
import { nemesisSeeds } from './nemesis-plan.ts'
import { describeLongOutage, describeNemesis } from './nemesis-scenario.ts'

describeNemesis({ seeds: nemesisSeeds(2), lengthMs: 60_000 })
describeLongOutage({ outageMs: 75_000 })
