import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { describe, test } from 'node:test'
import { PodMonitor, PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'
import { StatefulSet } from 'kubernetes-models/apps/v1'
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1'
import { Namespace, Secret, Service } from 'kubernetes-models/v1'
import { z } from 'zod'
import { readConfig } from '../../src/config.ts'
import { startGateway } from '../support/gateway.ts'
import { imageEnvironment, portOf, readDocument, readDocuments, settingVariables } from './deployment-files.ts'

/** The manifests, as far as they can be judged without a cluster. */
const folder = 'deploy/kubernetes'

const Probe = z.object({ httpGet: z.object({ path: z.string(), port: z.string() }) })
const Selector = z.object({ matchLabels: z.record(z.string(), z.string()) })
const Container = z.object({
  env: z.array(
    z.object({
      name: z.string(),
      value: z.string().optional(),
      valueFrom: z.object({ secretKeyRef: z.object({ name: z.string(), key: z.string() }) }).optional(),
    }),
  ),
  ports: z.array(z.object({ name: z.string(), containerPort: z.number() })),
  startupProbe: Probe,
  readinessProbe: Probe,
  livenessProbe: Probe,
  securityContext: z.unknown(),
  volumeMounts: z.array(z.object({ name: z.string(), mountPath: z.string() })),
})
const { spec } = readDocument(
  `${folder}/stateful-set.yaml`,
  z.object({
    spec: z.object({
      replicas: z.number(),
      serviceName: z.string(),
      selector: Selector,
      template: z.object({
        metadata: z.object({ labels: z.record(z.string(), z.string()) }),
        spec: z.object({
          enableServiceLinks: z.boolean(),
          terminationGracePeriodSeconds: z.number(),
          securityContext: z.unknown(),
          containers: z.tuple([Container]),
        }),
      }),
      volumeClaimTemplates: z.array(z.object({ metadata: z.object({ name: z.string() }) })),
    }),
  }),
)
const pod = spec.template.spec
const [container] = pod.containers
const environment = new Map(container.env.map((variable) => [variable.name, variable]))

const ServiceDocument = z.object({
  metadata: z.object({ name: z.string() }),
  spec: z.object({
    type: z.string().default('ClusterIP'),
    clusterIP: z.string().optional(),
    selector: z.record(z.string(), z.string()),
    ports: z.array(z.object({ port: z.number(), targetPort: z.string() })),
  }),
})
const services = z.array(ServiceDocument).parse(readDocuments(`${folder}/services.yaml`))

describe('the manifests', () => {
  test('are of the form that Kubernetes and the Prometheus operator ask for', () => {
    const kinds = {
      StatefulSet,
      NetworkPolicy,
      PodDisruptionBudget,
      Namespace,
      Secret,
      Service,
      PodMonitor,
      PrometheusRule,
    }
    const Kind = z.looseObject({ kind: z.enum(Object.keys(kinds)) })
    for (const path of manifestPaths()) {
      for (const document of readDocuments(path)) {
        const { kind } = Kind.parse(document)
        const model = Object.entries(kinds).find(([name]) => name === kind)?.[1]
        assert.ok(model, kind)
        assert.doesNotThrow(() => Reflect.construct(model, [document]).validate(), path)
      }
    }
  })

  test('are all in their kustomization, but for the example of a secret', () => {
    for (const path of [folder, `${folder}/monitoring`]) {
      const { resources } = readDocument(`${path}/kustomization.yaml`, z.object({ resources: z.array(z.string()) }))
      const present = readdirSync(path).filter((name) => /^(?!kustomization|secret\.example).*\.yaml$/.test(name))
      assert.deepEqual(new Set(resources), new Set(present))
    }
  })

  test('select the pods of the StatefulSet', () => {
    const Selecting = z.union([
      z.object({ podSelector: Selector }).transform(({ podSelector }) => podSelector),
      z.object({ selector: Selector }).transform(({ selector }) => selector),
    ])
    const selectors = ['stateful-set', 'pod-disruption-budget', 'network-policy', 'monitoring/pod-monitor'].map(
      (name) => readDocument(`${folder}/${name}.yaml`, z.object({ spec: Selecting })).spec.matchLabels,
    )
    for (const labels of [...selectors, ...services.map(({ spec: { selector } }) => selector)]) {
      for (const [name, value] of Object.entries(labels)) assert.equal(spec.template.metadata.labels[name], value)
    }
  })
})

describe('a node on Kubernetes', () => {
  test('sets nothing that is no setting, and reads secrets that the example names', () => {
    assert.deepEqual(
      [...environment.keys()].filter((name) => !settingVariables.has(name)),
      [],
    )
    const SecretDocument = z.object({
      metadata: z.object({ name: z.string() }),
      stringData: z.record(z.string(), z.string()),
    })
    const named = z
      .array(SecretDocument)
      .parse(readDocuments(`${folder}/secret.example.yaml`))
      .flatMap(({ metadata, stringData }) => Object.keys(stringData).map((key) => `${metadata.name}/${key}`))
    const Authorization = z.object({ credentials: z.object({ name: z.string(), key: z.string() }) })
    const monitor = readDocument(
      `${folder}/monitoring/pod-monitor.yaml`,
      z.object({ spec: z.object({ podMetricsEndpoints: z.tuple([z.object({ authorization: Authorization })]) }) }),
    )
    const [{ authorization }] = monitor.spec.podMetricsEndpoints
    const read = [...environment.values()]
      .flatMap(({ valueFrom }) => (valueFrom === undefined ? [] : [valueFrom.secretKeyRef]))
      .concat(authorization.credentials)
    assert.deepEqual(new Set(read.map(({ name, key }) => `${name}/${key}`)), new Set(named))
  })

  test('is not given the variables that Kubernetes makes of services, which would stop its start', () => {
    assert.equal(pod.enableServiceLinks, false)
    assert.throws(() => readConfig({ TOLLGATE_NODES_SERVICE_HOST: '10.0.0.1' }), /is not a setting/)
  })

  test('is probed on pages that its management listener has', async () => {
    await using gateway = await startGateway()
    for (const { httpGet } of [container.startupProbe, container.readinessProbe, container.livenessProbe]) {
      assert.equal(httpGet.port, 'management')
      assert.equal((await fetch(`${gateway.management}${httpGet.path}`)).status, 200, httpGet.path)
    }
  })

  test('has the ports and the data folder of its image', () => {
    const image = imageEnvironment()
    const ports = new Map(container.ports.map(({ name, containerPort }) => [name, containerPort]))
    assert.deepEqual(Object.fromEntries(ports), {
      inference: portOf(image['TOLLGATE_INFERENCE_LISTEN']),
      management: portOf(image['TOLLGATE_MANAGEMENT_LISTEN']),
    })
    for (const { spec: service } of services) {
      for (const { port, targetPort } of service.ports) assert.equal(ports.get(targetPort), port)
    }
    const [claim] = spec.volumeClaimTemplates
    assert.deepEqual(container.volumeMounts, [{ name: claim?.metadata.name, mountPath: image['TOLLGATE_DATA_DIR'] }])
    assert.ok(services.some(({ metadata }) => metadata.name === spec.serviceName))
  })

  test('is within reach of the cluster alone', () => {
    assert.deepEqual(new Set(services.map(({ spec: { type } }) => type)), new Set(['ClusterIP']))
  })

  test('has time to end its requests and to ship its journal before it is killed', () => {
    const names = ['TOLLGATE_SHUTDOWN_DELAY_MS', 'TOLLGATE_SHUTDOWN_TIMEOUT_MS']
    const stoppingMs = names.reduce((sum, name) => sum + Number(environment.get(name)?.value), 0)
    assert.ok(pod.terminationGracePeriodSeconds * 1000 >= stoppingMs + 20_000)
  })

  test('runs as nobody, without rights, on a read-only file system', () => {
    assert.deepEqual(pod.securityContext, {
      runAsNonRoot: true,
      runAsUser: 10001,
      runAsGroup: 10001,
      fsGroup: 10001,
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
    })
    assert.deepEqual(container.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
  })

  test('is one of several, of which a drained machine takes one', () => {
    const { maxUnavailable } = readDocument(
      `${folder}/pod-disruption-budget.yaml`,
      z.object({ spec: z.object({ maxUnavailable: z.number() }) }),
    ).spec
    assert.ok(spec.replicas - maxUnavailable >= 1)
  })
})

function manifestPaths(): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /^(?!(.*\/)?kustomization).*\.yaml$/.test(name))
    .map((name) => `${folder}/${name}`)
}
