/** Counters and gauges for operators. Labels are of low cardinality: never a DID, never an address. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** Values of labels. */
export type MetricLabels = Record<string, string>

/** A number that only grows. */
export interface CounterMetric { add: (amount?: number, labels?: MetricLabels) => void }

/** A number that goes up and down. */
export interface GaugeMetric { set: (value: number, labels?: MetricLabels) => void, add: (amount: number, labels?: MetricLabels) => void }

/** A distribution, in the unit of its name. */
export interface HistogramMetric { observe: (value: number, labels?: MetricLabels) => void }

/** The registry of one process or one in-process Carrier. Names: `carrier_<area>_<what>_<unit>[_total]`. */
export interface Metrics {
  counter: (name: string, help: string, labels?: string[]) => CounterMetric
  gauge: (name: string, help: string, labels?: string[], collect?: () => number) => GaugeMetric
  histogram: (name: string, help: string, buckets: number[], labels?: string[]) => HistogramMetric
  /** The Prometheus text format of everything. */
  text: () => Promise<string>
  /** Names of all metrics that were registered, for the table test. */
  names: () => string[]
}

/** What was added since the metrics were last read: some counters are fed for each piece of data, and the library hashes labels each time. */
interface Sum { values: MetricLabels, amount: number }

const NO_LABELS: MetricLabels = {}

function keyOf (values: MetricLabels, labels: readonly string[]): string {
  const [first] = labels
  if (first === undefined) return ''
  return labels.length === 1 ? values[first] ?? '' : labels.map((label) => values[label] ?? '').join('\0')
}

function settle (metric: Counter, sums: Map<string, Sum>): void {
  for (const sum of sums.values()) {
    metric.inc(sum.values, sum.amount)
    sum.amount = 0
  }
}

/** A registry of its own; asking twice for one name gives the same metric. */
export function createMetrics (): Metrics {
  const registry = new Registry()
  const known = new Map<string, Counter | Gauge | Histogram>()
  const sumsOf = new Map<string, Map<string, Sum>>()

  return {
    counter: (name, help, labels = []) => {
      const sums = sumsOf.get(name) ?? new Map<string, Sum>()
      sumsOf.set(name, sums)
      const metric = (known.get(name) ?? new Counter({ name, help, labelNames: labels, registers: [registry], collect () { settle(this, sums) } })) as Counter
      known.set(name, metric)
      return {
        add: (amount = 1, values = NO_LABELS) => {
          const key = keyOf(values, labels)
          let sum = sums.get(key)
          if (sum === undefined) {
            // wrong labels throw here and not where they are read
            metric.inc(values, 0)
            sum = { values, amount: 0 }
            sums.set(key, sum)
          }
          sum.amount += amount
        }
      }
    },
    gauge: (name, help, labels = [], collect) => {
      const metric = (known.get(name) ?? new Gauge({
        name,
        help,
        labelNames: labels,
        registers: [registry],
        ...(collect === undefined ? {} : { collect () { this.set(collect()) } })
      })) as Gauge
      known.set(name, metric)
      return {
        set: (value, values = {}) => { metric.set(values, value) },
        add: (amount, values = {}) => { metric.inc(values, amount) }
      }
    },
    histogram: (name, help, buckets, labels = []) => {
      const metric = (known.get(name) ?? new Histogram({ name, help, buckets, labelNames: labels, registers: [registry] })) as Histogram
      known.set(name, metric)
      return { observe: (value, values = {}) => { metric.observe(values, value) } }
    },
    text: async () => registry.metrics(),
    names: () => [...known.keys()]
  }
}
