/** The fields of Kubernetes objects that our chart uses, as the API of 1.27 and later has them; a field that is not here is a fault. */
import { z } from 'zod'

const name = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/)
const portName = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$/)
const port = z.number().int().min(1).max(65_535)
const labelValue = z.string().regex(/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/)
const labels = z.record(z.string().regex(/^([a-z0-9.-]+\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/), labelValue)
const quantity = z.union([z.string().regex(/^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$/), z.number().positive()])
const metadata = z.strictObject({ name, labels: labels.optional(), annotations: z.record(z.string(), z.string()).optional() })
const selector = z.strictObject({ matchLabels: labels })
const cidr = z.string().regex(/^[\d.]+\/\d+$/)

const probe = z.strictObject({
  httpGet: z.strictObject({ path: z.string().startsWith('/'), port: z.union([port, portName]) }),
  periodSeconds: z.number().int().min(1).optional(),
  timeoutSeconds: z.number().int().min(1).optional(),
  failureThreshold: z.number().int().min(1).optional()
})

const container = z.strictObject({
  name,
  image: z.string().regex(/^[a-z0-9./:-]+:[\w.-]+$/),
  imagePullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']),
  args: z.array(z.string()),
  env: z.array(z.union([
    z.strictObject({ name: z.string().regex(/^[A-Z_]+$/), value: z.string() }),
    z.strictObject({ name: z.string().regex(/^[A-Z_]+$/), valueFrom: z.strictObject({ fieldRef: z.strictObject({ fieldPath: z.enum(['metadata.name', 'status.hostIP', 'status.podIP']) }) }) })
  ])),
  ports: z.array(z.strictObject({ name: portName, containerPort: port, hostPort: port.optional() })),
  startupProbe: probe,
  livenessProbe: probe,
  readinessProbe: probe,
  resources: z.strictObject({ requests: z.strictObject({ cpu: quantity, memory: quantity }), limits: z.strictObject({ memory: quantity }) }),
  securityContext: z.strictObject({ allowPrivilegeEscalation: z.literal(false), readOnlyRootFilesystem: z.literal(true), capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }) }),
  volumeMounts: z.array(z.strictObject({ name, mountPath: z.string().startsWith('/'), readOnly: z.boolean().optional() }))
})

const podSpec = z.strictObject({
  terminationGracePeriodSeconds: z.number().int(),
  automountServiceAccountToken: z.literal(false),
  enableServiceLinks: z.literal(false),
  securityContext: z.strictObject({
    runAsNonRoot: z.literal(true),
    runAsUser: z.number().int().min(1),
    runAsGroup: z.number().int().min(1),
    fsGroup: z.number().int().min(1),
    fsGroupChangePolicy: z.enum(['OnRootMismatch', 'Always']),
    seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') })
  }),
  affinity: z.strictObject({ podAntiAffinity: z.strictObject({ requiredDuringSchedulingIgnoredDuringExecution: z.array(z.strictObject({ topologyKey: z.string(), labelSelector: selector })).min(1) }) }),
  containers: z.tuple([container]),
  volumes: z.array(z.strictObject({ name, configMap: z.strictObject({ name }) }))
})

const configMap = z.strictObject({ apiVersion: z.literal('v1'), kind: z.literal('ConfigMap'), metadata, data: z.record(z.string(), z.string()) })

const service = z.strictObject({
  apiVersion: z.literal('v1'),
  kind: z.literal('Service'),
  metadata,
  spec: z.strictObject({
    type: z.enum(['ClusterIP', 'LoadBalancer']).optional(),
    clusterIP: z.literal('None').optional(),
    publishNotReadyAddresses: z.boolean().optional(),
    externalTrafficPolicy: z.enum(['Local', 'Cluster']).optional(),
    selector: labels,
    ports: z.array(z.strictObject({ name: portName, port, targetPort: z.union([port, portName]) })).min(1)
  })
})

const statefulSet = z.strictObject({
  apiVersion: z.literal('apps/v1'),
  kind: z.literal('StatefulSet'),
  metadata,
  spec: z.strictObject({
    serviceName: name,
    replicas: z.number().int().min(0),
    minReadySeconds: z.number().int().min(0),
    selector,
    updateStrategy: z.strictObject({ type: z.literal('RollingUpdate') }),
    template: z.strictObject({ metadata: z.strictObject({ labels, annotations: z.record(z.string(), z.string()) }), spec: podSpec }),
    volumeClaimTemplates: z.tuple([z.strictObject({ metadata: z.strictObject({ name }), spec: z.strictObject({ accessModes: z.tuple([z.literal('ReadWriteOnce')]), storageClassName: name, resources: z.strictObject({ requests: z.strictObject({ storage: quantity }) }) }) })])
  })
})

const podDisruptionBudget = z.strictObject({ apiVersion: z.literal('policy/v1'), kind: z.literal('PodDisruptionBudget'), metadata, spec: z.strictObject({ maxUnavailable: z.number().int().min(1), selector }) })

const policyPort = z.strictObject({ protocol: z.enum(['TCP', 'UDP']), port: z.union([port, portName]) })
const policyPeer = z.union([z.strictObject({ namespaceSelector: selector }), z.strictObject({ ipBlock: z.strictObject({ cidr, except: z.array(cidr) }) })])
const networkPolicy = z.strictObject({
  apiVersion: z.literal('networking.k8s.io/v1'),
  kind: z.literal('NetworkPolicy'),
  metadata,
  spec: z.strictObject({
    podSelector: selector,
    policyTypes: z.tuple([z.literal('Ingress'), z.literal('Egress')]),
    ingress: z.array(z.strictObject({ from: z.array(policyPeer).optional(), ports: z.array(policyPort) })),
    egress: z.array(z.strictObject({ to: z.array(policyPeer), ports: z.array(policyPort).optional() }))
  })
})

const kubernetesObject = z.discriminatedUnion('kind', [configMap, service, statefulSet, podDisruptionBudget, networkPolicy])
/** Any object of our chart. */
export type KubernetesObject = z.infer<typeof kubernetesObject>

/** Reads one. @throws Error that names fields which are missing, unknown or wrong */
export function readKubernetesObject (value: unknown): KubernetesObject {
  const result = kubernetesObject.safeParse(value)
  if (result.success) return result.data
  throw new Error(`${JSON.stringify(value).slice(0, 200)}: ${result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')}`)
}
