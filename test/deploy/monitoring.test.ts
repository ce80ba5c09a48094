/** deploy/monitoring and deploy/compose.yaml: they refer to what a running relay gives out, and to each other. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { z } from 'zod'
import { BOOTSTRAP_DEFAULTS, spliceAddresses } from '../../src/bootstrap/index.ts'
import { createRelay } from '../support/bootstrap.ts'
import { ROOT } from '../support/daemon.ts'
import { parseDockerfile } from '../support/dockerfile.ts'
import { expressionNames } from '../support/prometheus-names.ts'
import { requirement } from '../support/requirement.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { parseYaml, yamlObstacle } from '../support/yaml.ts'

const DEPLOY = join(ROOT, 'deploy')
const read = (...path: string[]): string => readFileSync(join(DEPLOY, ...path), 'utf8')
const readYaml = <Value>(schema: z.ZodType<Value>, ...path: string[]): Value => schema.parse(parseYaml(read(...path))[0])

const label = z.record(z.string(), z.string())
const Rules = z.strictObject({
  groups: z.array(z.strictObject({
    name: z.string(),
    rules: z.array(z.strictObject({
      alert: z.string().regex(/^CarrierRelay[A-Z]\w+$/),
      expr: z.string(),
      for: z.string().regex(/^\d+[mh]$/).optional(),
      labels: z.strictObject({ severity: z.enum(['critical', 'warning', 'info']) }),
      annotations: z.strictObject({ summary: z.string().min(10), description: z.string().min(10) })
    })).min(1)
  })).length(1)
})
const Prometheus = z.strictObject({
  global: label,
  rule_files: z.array(z.string()),
  scrape_configs: z.tuple([z.strictObject({ job_name: z.string(), static_configs: z.tuple([z.strictObject({ targets: z.array(z.string()) })]) })])
})
const service = z.object({
  image: z.string(),
  build: z.object({ context: z.string(), dockerfile: z.string() }).optional(),
  read_only: z.boolean().optional(),
  cap_drop: z.array(z.string()),
  security_opt: z.array(z.string()),
  environment: label.optional(),
  ports: z.array(z.string()).optional(),
  volumes: z.array(z.string()),
  networks: z.array(z.string()),
  command: z.array(z.string()).optional(),
  stop_grace_period: z.string().optional()
})
const Compose = z.object({ services: z.record(z.string(), service), volumes: z.record(z.string(), z.null()), networks: z.record(z.string(), z.null()) })

interface Panel { id: number, type: string, title: string, gridPos: { h: number, w: number, x: number, y: number }, targets?: Array<{ expr: string, datasource: { uid: string } }> }
interface Dashboard { uid: string, panels: Panel[], templating: { list: Array<{ name: string, query: string }> } }
const dashboard = JSON.parse(read('monitoring', 'grafana', 'dashboards', 'carrier-relay.json')) as Dashboard

/** Names of the metrics that a relay which was just started gives out. */
let given: Set<string>
/** Labels of each, from where they are registered: one that was never counted shows none. */
const labelsOf = new Map<string, string[]>()
const source = globSync('src/{bootstrap,node}/*.ts', { cwd: ROOT }).map((file) => readFileSync(join(ROOT, file), 'utf8')).join('\n')

before(async () => {
  const relay = await createRelay({ dataDirectory: makeTempDirectory('relay') })
  const { health } = await relay.start()
  const body = await (await fetch(`http://${health}/metrics`)).text()
  await relay.stop()
  given = new Set([...body.matchAll(/^# TYPE (\S+) /gm)].map((match) => match[1] ?? ''))
  for (const [, name = '', list = ''] of source.matchAll(/metrics\.(?:counter|gauge)\('(\w+)', '[^']*'(?:, \[([^\]]*)\])?/g)) labelsOf.set(name, [...list.matchAll(/'(\w+)'/g)].map((match) => match[1] ?? ''))
})

/** What is wrong with an expression; empty: nothing. */
function faultsOf (expression: string): string[] {
  const names = expressionNames(expression)
  const known = [...names.metrics.filter((name) => name.startsWith('carrier_')).flatMap((name) => labelsOf.get(name) ?? []), 'instance', 'job']
  return [
    ...names.metrics.filter((name) => name !== 'up' && !given.has(name)).map((name) => `no metric ${name}`),
    ...[...names.groupLabels, ...names.matchers.map((matcher) => matcher.label)].filter((name) => !known.includes(name)).map((name) => `no label ${name}`),
    ...names.matchers.filter(({ label: name, isExact, value }) => isExact && name !== 'job' && !source.includes(`'${value}'`)).map(({ value }) => `nothing says ${value}`)
  ]
}

describe('monitoring', requirement('deploy', yamlObstacle()), () => {
  test('alert rules refer to metrics, labels and words that a relay has', () => {
    const { rules } = readYaml(Rules, 'monitoring', 'alerts.yml').groups[0] ?? { rules: [] }
    assert.equal(new Set(rules.map((rule) => rule.alert)).size, rules.length)
    for (const { alert, expr } of rules) assert.deepEqual(faultsOf(expr), [], alert)
    for (const [wrong, fault] of [
      ['rate(carrier_relay_nothing_total[5m]) > 1', 'no metric carrier_relay_nothing_total'],
      ['sum by (colour) (rate(carrier_relay_ended_circuits_total[5m]))', 'no label colour'],
      ['carrier_relay_reservation_requests_total{status="FINE"} > 1', 'nothing says FINE']
    ] as const) assert.deepEqual(faultsOf(wrong), [fault])
    assert.throws(() => faultsOf('sum(rate(carrier_relay_bytes_total[5m])'), /brackets/)
    assert.throws(() => faultsOf('irrate(carrier_relay_bytes_total[5m])'), /not known/)
  })

  test('the dashboard refers to them too, to the data source that is provisioned, and its panels lie beside each other', () => {
    const [dataSource] = readYaml(z.object({ datasources: z.tuple([z.object({ uid: z.string(), type: z.literal('prometheus'), url: z.string() })]) }), 'monitoring', 'grafana', 'provisioning', 'datasources', 'prometheus.yaml').datasources
    const targets = dashboard.panels.flatMap((panel) => panel.targets ?? [])
    assert.ok(targets.length > 20)
    for (const { expr, datasource } of targets) {
      assert.deepEqual(faultsOf(expr), [], expr)
      assert.equal(datasource.uid, dataSource.uid)
    }
    for (const { query } of dashboard.templating.list) assert.deepEqual(faultsOf(query.replace(', instance', '')), [])
    assert.equal(new Set(dashboard.panels.map((panel) => panel.id)).size, dashboard.panels.length)
    for (const one of dashboard.panels) {
      assert.ok(one.gridPos.x + one.gridPos.w <= 24, one.title)
      for (const other of dashboard.panels) if (one !== other) assert.ok(!overlap(one.gridPos, other.gridPos), `${one.title} lies on ${other.title}`)
    }
  })

  test('every refusal that a relay counts is on the dashboard', () => {
    const shown = new Set(dashboard.panels.flatMap((panel) => panel.targets ?? []).flatMap(({ expr }) => expressionNames(expr).metrics))
    const refusals = [...given].filter((name) => /_(refused|failed|quota_refusals)_?/.test(name))
    assert.ok(refusals.length >= 5, refusals.join(' '))
    assert.deepEqual(refusals.filter((name) => !shown.has(name)), [])
  })

  test('Compose: relays as in the image, nothing but their ports is open, files and names are there', () => {
    const { services, volumes, networks } = readYaml(Compose, 'compose.yaml')
    const image = parseDockerfile(read('Dockerfile')).stages.at(-1)
    const relays = Object.entries(services).filter(([name]) => name.startsWith('relay'))
    assert.equal(relays.length, 2)
    const opened: string[] = []
    for (const [name, relay] of relays) {
      const environment = relay.environment ?? {}
      const listen = (environment['CARRIER_BOOTSTRAP_LISTEN'] ?? '').split(',')
      const splice = spliceAddresses({ ...BOOTSTRAP_DEFAULTS, listen }).map(({ port }) => String(port))
      const ports = [...listen.map((address) => /\/tcp\/(\d+)/.exec(address)?.[1] ?? ''), ...splice].sort()
      assert.deepEqual(relay.ports, ports.map((port) => `${port}:${port}`), name)
      opened.push(...ports)
      assert.ok(environment['CARRIER_BOOTSTRAP_ANNOUNCE']?.endsWith(listen[0]?.slice(listen[0].indexOf('/tcp/')) ?? ''), name)
      assert.equal(relay.read_only, true)
      assert.deepEqual(relay.volumes, [`${name}:${image?.volumes[0]}`])
      assert.ok(Number(relay.stop_grace_period?.replace('s', '')) * 1000 > BOOTSTRAP_DEFAULTS.drainMs + 5_000)
    }
    assert.equal(new Set(opened).size, opened.length, 'on one machine each port is one relay\'s')
    for (const [name, one] of Object.entries(services)) {
      assert.match(one.image, name.startsWith('relay') ? /^carrier-bootstrap$/ : /^[a-z/]+:v?\d+\.\d+\.\d+$/, 'pinned')
      assert.deepEqual(one.cap_drop, ['ALL'])
      assert.deepEqual(one.security_opt, ['no-new-privileges:true'])
      if (!name.startsWith('relay')) for (const port of one.ports ?? []) assert.match(port, /^127\.0\.0\.1:/)
      for (const volume of one.volumes) {
        const [from = ''] = volume.split(':')
        assert.ok(from.startsWith('./') ? existsSync(join(DEPLOY, from)) : from in volumes, volume)
      }
      for (const network of one.networks) assert.ok(network in networks)
      for (const [key, value] of Object.entries(one.environment ?? {})) if (/PASSWORD|ADDRESS/.test(key)) assert.match(value, /^\$\{[A-Z_]+:\?/, 'is asked for, has no default')
    }
    const build = services['relay1']?.build
    assert.ok(build !== undefined && existsSync(join(DEPLOY, build.context, build.dockerfile)))
  })

  test('Prometheus asks both relays where they answer, under the name that the rules use', () => {
    const { rule_files: files, scrape_configs: [job] } = readYaml(Prometheus, 'monitoring', 'prometheus.yml')
    const { services } = readYaml(Compose, 'compose.yaml')
    assert.deepEqual(job.static_configs[0].targets, ['relay1', 'relay2'].map((name) => `${name}:${services[name]?.environment?.['CARRIER_BOOTSTRAP_HEALTH']?.split(':')[1]}`))
    assert.ok(read('monitoring', 'alerts.yml').includes(`job="${job.job_name}"`))
    for (const file of files) assert.ok(services['prometheus']?.volumes.some((volume) => volume.split(':')[1] === file), file)
    assert.ok(services['grafana']?.volumes.some((volume) => volume.split(':')[1] === /path: (\S+)/.exec(read('monitoring', 'grafana', 'provisioning', 'dashboards', 'carrier.yaml'))?.[1]))
  })
})

function overlap (one: Panel['gridPos'], other: Panel['gridPos']): boolean {
  return one.x < other.x + other.w && other.x < one.x + one.w && one.y < other.y + other.h && other.y < one.y + one.h
}
