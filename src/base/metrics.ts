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

/** A registry of its own; asking twice for one name gives the same metric. */
export function createMetrics (): Metrics {
  const registry = new Registry()
  const known = new Map<string, Counter | Gauge | Histogram>()

  return {
    counter: (name, help, labels = []) => {
      const metric = (known.get(name) ?? new Counter({ name, help, labelNames: labels, registers: [registry] })) as Counter
      known.set(name, metric)
      return { add: (amount = 1, values = {}) => { metric.inc(values, amount) } }
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
