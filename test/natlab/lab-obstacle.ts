/** Suites that run in the lab: registered where it is possible, a skipped test with its reason, or a failure, elsewhere. */
import { describe, it } from 'node:test'
import { requirement } from '../support/requirement.ts'
import { namespaceObstacle } from './namespace.ts'
import { postgresObstacle } from './postgres.ts'

/** Registers `body` as a suite; where CARRIER_TEST_REQUIRE names what is missing, loading the file fails. `concurrency`: so many of its tests at a time. */
export function describeInLab (name: string, body: () => void, options: { postgres?: boolean, concurrency?: number } = {}): void {
  const lab = requirement('lab', namespaceObstacle())
  const { skip } = lab.skip !== false || options.postgres !== true ? lab : requirement('postgres', postgresObstacle())
  if (skip === false) describe(name, { concurrency: options.concurrency ?? 1 }, body)
  else it(name, { skip }, () => { /* the reason is printed */ })
}
