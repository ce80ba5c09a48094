/** deploy/helm/carrier-bootstrap: what it renders is what Kubernetes knows, hangs together, and runs the relay that is meant. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { parseBootstrapConfig } from '../../src/bootstrap/index.ts'
import { VERSION } from '../../src/version.ts'
import { ROOT } from '../support/daemon.ts'
import { parseDockerfile } from '../support/dockerfile.ts'
import { renderChart, renderTemplate } from '../support/helm-render.ts'
import { readKubernetesObject } from '../support/kubernetes-shapes.ts'
import type { KubernetesObject } from '../support/kubernetes-shapes.ts'
import { requirement } from '../support/requirement.ts'
import { parseYaml, yamlObstacle } from '../support/yaml.ts'

const CHART = join(ROOT, 'deploy', 'helm', 'carrier-bootstrap')
const Release = { Name: 'relay', Namespace: 'carrier' }
type Kind<Name extends KubernetesObject['kind']> = Extract<KubernetesObject, { kind: Name }>
type Ports = Record<'peers' | 'splice' | 'websocket' | 'health', number>
interface Values extends Record<string, unknown> { replicas: number, ports: Ports, drainSeconds: number, terminationSeconds: number }

function read<Value> (file: string): Value {
  return parseYaml(readFileSync(join(CHART, file), 'utf8'))[0] as Value
}

/** Everything that an installation with these values makes. */
function render (values: object): KubernetesObject[] {
  const { name, version, appVersion } = read<{ name: string, version: string, appVersion: string }>('Chart.yaml')
  const texts = [...renderChart(CHART, { Values: { ...read<Values>('values.yaml'), ...values }, Release, Chart: { Name: name, Version: version, AppVersion: appVersion } }).values()]
  return parseYaml(texts.join('\n---\n')).filter((document) => document !== null).map(readKubernetesObject)
}

function all<Name extends KubernetesObject['kind']> (objects: readonly KubernetesObject[], kind: Name): Array<Kind<Name>> {
  return objects.filter((object): object is Kind<Name> => object.kind === kind)
}

function one<Name extends KubernetesObject['kind']> (objects: readonly KubernetesObject[], kind: Name): Kind<Name> {
  const [found, ...others] = all(objects, kind)
  assert.ok(found !== undefined && others.length === 0, kind)
  return found
}

/** What has to hold for every way of exposure. */
function assertHangsTogether (objects: readonly KubernetesObject[]): void {
  const set = one(objects, 'StatefulSet')
  const { labels } = set.spec.template.metadata
  const [relay] = set.spec.template.spec.containers
  const portNames = relay.ports.map((item) => item.name)
  const has = (wanted: Record<string, string>): boolean => Object.entries(wanted).every(([key, value]) => labels[key] === value)
  for (const { matchLabels } of [set.spec.selector, one(objects, 'PodDisruptionBudget').spec.selector, one(objects, 'NetworkPolicy').spec.podSelector, ...set.spec.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.map((term) => term.labelSelector)]) assert.ok(has(matchLabels), JSON.stringify(matchLabels))
  const headless = all(objects, 'Service').find((service) => service.spec.clusterIP === 'None')
  assert.equal(headless?.metadata.name, set.spec.serviceName)
  assert.ok(has(headless.spec.selector))
  for (const service of all(objects, 'Service')) for (const { targetPort } of service.spec.ports) assert.ok(portNames.includes(String(targetPort)), `${service.metadata.name}: ${targetPort}`)
  for (const { ports } of one(objects, 'NetworkPolicy').spec.ingress) for (const { port } of ports) assert.ok(portNames.includes(String(port)), String(port))
  for (const probe of [relay.startupProbe, relay.livenessProbe, relay.readinessProbe]) assert.equal(probe.httpGet.port, 'health')
  assert.equal(relay.livenessProbe.httpGet.path, '/healthz', 'a relay that drains is not killed')
  assert.equal(relay.readinessProbe.httpGet.path, '/readyz')
  const volumes = [...set.spec.template.spec.volumes.map((item) => item.name), ...set.spec.volumeClaimTemplates.map((item) => item.metadata.name)]
  assert.deepEqual(relay.volumeMounts.map((item) => item.name).sort(), volumes.sort())
  assert.equal(set.spec.template.spec.volumes[0]?.configMap.name, one(objects, 'ConfigMap').metadata.name)
  const { terminationGracePeriodSeconds } = set.spec.template.spec
  const config = configOf(objects)
  assert.ok(terminationGracePeriodSeconds * 1000 >= (config.drainMs ?? 0) + 10_000, 'the drain has its time')
  assert.ok(new Set(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).size === objects.length, 'every object has a name of its own')
}

function configOf (objects: readonly KubernetesObject[]): ReturnType<typeof parseBootstrapConfig> {
  const text = one(objects, 'ConfigMap').data['carrier-bootstrap.toml']
  assert.ok(text !== undefined)
  return parseBootstrapConfig(text, 'carrier-bootstrap.toml')
}

describe('the Helm chart', requirement('deploy', yamlObstacle()), () => {
  test('with load balancers: one for each relay, which lets the relay see where peers come from', () => {
    const objects = render({ replicas: 3 })
    assertHangsTogether(objects)
    const balancers = all(objects, 'Service').filter((service) => service.spec.type === 'LoadBalancer')
    assert.deepEqual(balancers.map((service) => service.spec.selector), [0, 1, 2].map((ordinal) => ({ 'statefulset.kubernetes.io/pod-name': `relay-${ordinal}` })))
    for (const service of balancers) {
      assert.equal(service.spec.externalTrafficPolicy, 'Local')
      assert.deepEqual(service.spec.ports.map((port) => port.port), [4001, 4002, 4003], 'health and metrics are nobody\'s')
    }
    assert.ok(one(objects, 'StatefulSet').spec.template.spec.containers[0].ports.every((port) => port.hostPort === undefined))
  })

  test('with ports of the nodes: no load balancer, and health stays inside', () => {
    const objects = render({ exposure: 'hostPort' })
    assertHangsTogether(objects)
    assert.deepEqual(all(objects, 'Service').map((service) => service.spec.type), [undefined])
    const { ports } = one(objects, 'StatefulSet').spec.template.spec.containers[0]
    assert.deepEqual(ports.filter((port) => port.hostPort !== undefined).map((port) => port.hostPort), [4001, 4002, 4003])
    assert.ok(ports.every((port) => port.hostPort === undefined || port.hostPort === port.containerPort), 'what is announced is what is open')
  })

  test('the relay listens on what the pod opens, keeps its identity in the volume, announces its own name, and is the image\'s user', () => {
    const objects = render({})
    const config = configOf(objects)
    const { spec } = one(objects, 'StatefulSet').spec.template
    const [relay] = spec.containers
    const { ports } = read<Values>('values.yaml')
    assert.equal(config.admission?.mode, 'open')
    assert.equal(configOf(render({ quotas: '{ member = { circuits = 3 } }' })).quotas?.member.circuits, 3)
    assert.deepEqual(config.listen, [`/ip4/0.0.0.0/tcp/${ports.peers}`, `/ip4/0.0.0.0/tcp/${ports.websocket}/ws`])
    assert.deepEqual(config.splice, { host: '0.0.0.0', port: ports.splice })
    assert.deepEqual(config.health, { host: '0.0.0.0', port: ports.health })
    const env = Object.fromEntries(relay.env.map((item) => [item.name, 'value' in item ? item.value : item.valueFrom.fieldRef.fieldPath]))
    assert.equal(env['CARRIER_BOOTSTRAP_ANNOUNCE'], '/dns4/$(POD_NAME).relays.example.org/tcp/4001')
    assert.equal(env['POD_NAME'], 'metadata.name')
    assert.ok(relay.env.findIndex(({ name }) => name === 'POD_NAME') < relay.env.findIndex(({ name }) => name === 'CARRIER_BOOTSTRAP_ANNOUNCE'), 'a variable refers to earlier ones only')
    const image = parseDockerfile(readFileSync(join(ROOT, 'deploy', 'Dockerfile'), 'utf8')).stages.at(-1)
    for (const name of Object.keys(image?.env ?? {}).filter((key) => key.startsWith('CARRIER_'))) assert.ok(name in env, `${name} of the image would win over the file`)
    assert.equal(env['CARRIER_BOOTSTRAP_DATA_DIR'], config.dataDirectory)
    assert.equal(env['CARRIER_BOOTSTRAP_HEALTH'], `0.0.0.0:${ports.health}`)
    const data = relay.volumeMounts.find((item) => item.name === 'data')?.mountPath ?? ''
    assert.ok(config.dataDirectory?.startsWith(`${data}/`))
    assert.deepEqual(image?.volumes, [data])
    assert.equal(image.user, `${spec.securityContext.runAsUser}:${spec.securityContext.runAsGroup}`)
    assert.equal(relay.args[1], `${relay.volumeMounts.find((item) => item.name === 'config')?.mountPath}/carrier-bootstrap.toml`)
  })

  test('only Prometheus reaches health and metrics, and the relay reaches nothing inside', () => {
    const { ingress, egress } = one(render({}), 'NetworkPolicy').spec
    assert.deepEqual(ingress.filter(({ from }) => from === undefined).flatMap(({ ports }) => ports.map(({ port }) => port)), ['peers', 'splice', 'websocket'])
    assert.deepEqual(ingress.find(({ ports }) => ports.some(({ port }) => port === 'health'))?.from, [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }])
    const blocks = egress.flatMap(({ to }) => to).flatMap((peer) => 'ipBlock' in peer ? [peer.ipBlock] : [])
    for (const range of ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '169.254.0.0/16']) assert.ok(blocks.every(({ except }) => except.includes(range)), range)
  })

  test('chart and image are of this release', () => {
    assert.equal(read<{ appVersion: string }>('Chart.yaml').appVersion, VERSION)
    assert.equal(read<{ image: { tag: string } }>('values.yaml').image.tag, VERSION)
  })

  test('a value that is missing, a field that is misspelt and a dot inside a range are seen', () => {
    assert.throws(() => render({ ports: {} }), /ports\.\w+ is not a text or a number/)
    const scope = { Values: { count: 2 }, Release, Chart: {} }
    assert.throws(() => renderTemplate('{{- range $n := until (int .Values.count) }}\n{{ .Values.count }}\n{{- end }}', scope), /leads nowhere here/)
    assert.throws(() => renderTemplate('{{ .Values.count | quote }}', scope), /not known/)
    assert.throws(() => renderTemplate('{{ .Values.count }}', { ...scope, Values: { count: 2_000_000 } }), /otherwise/)
    assert.equal(renderTemplate('a\n{{- range $n := until (int .Values.count) }}\nb{{ $n }}\n{{- end }}\nc', scope), 'a\nb0\nb1\nc')
    const set = one(render({}), 'StatefulSet')
    assert.throws(() => readKubernetesObject({ ...set, spec: { ...set.spec, minReadySecond: 1 } }), /minReadySecond/)
    assert.throws(() => readKubernetesObject({ ...set, spec: { ...set.spec, replicas: '2' } }), /spec\.replicas/)
  })
})
