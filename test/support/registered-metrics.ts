/** Every metric that a device and a relay register, as their /metrics body names them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import { createCarrier } from '../../src/index.ts'

/** One metric: its name and its help text. */
export interface RegisteredMetric { name: string, help: string }

/** Starts and stops one of each in a temporary directory and reads their registries. */
export async function registeredMetrics (): Promise<RegisteredMetric[]> {
  const directory = mkdtempSync(join(tmpdir(), 'carrier-metrics-'))
  try {
    const carrier = await createCarrier({ dataDirectory: join(directory, 'device') })
    await carrier.start()
    const bootstrap = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: join(directory, 'relay'), listen: ['/ip4/127.0.0.1/tcp/0'], health: { host: '127.0.0.1', port: 0 } })
    await bootstrap.start()
    const text = `${await carrier.metrics.text()}\n${await bootstrap.metrics.text()}`
    await bootstrap.stop()
    await carrier.stop()
    const found = [...text.matchAll(/^# HELP (\S+) (.*)$/gm)].map((match) => ({ name: match[1] ?? '', help: match[2] ?? '' }))
    return found.toSorted((a, b) => a.name < b.name ? -1 : 1)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
