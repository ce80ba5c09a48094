/** Faults done to a lab and undone. */
import { mustRun } from '../support/program.ts'
import type { Relay } from '../support/bootstrap.ts'
import { pause } from '../support/wait.ts'
import { UPLINK } from './lab.ts'
import type { Lab } from './lab.ts'
import type { Namespace } from './namespace.ts'
import { loadRuleset } from './namespace.ts'
import type { Fault, Home } from './nemesis-plan.ts'

/** Something that does faults; one for the whole life of a lab. */
export interface Nemesis {
  /** Does a fault, keeps it up for `durationMs`, and undoes it. Address changes are not undone: the new one stays. */
  run: (fault: Fault, durationMs: number) => Promise<void>
}

const HOME_NUMBER: Readonly<Record<Home, number>> = { office: 1, laptop: 2 }
/** Addresses of one router or machine: it takes the next one at each change. */
const ADDRESS_COUNT = 8
const FIRST_HOST = 2

/** Makes it. The relays of the lab in the same order. */
export function createNemesis (lab: Lab, relays: readonly Relay[]): Nemesis {
  const hosts = { office: { public: FIRST_HOST, lan: FIRST_HOST }, laptop: { public: FIRST_HOST, lan: FIRST_HOST } }
  let tableCount = 0
  return { run }

  async function run (fault: Fault, durationMs: number): Promise<void> {
    switch (fault.kind) {
      case 'kill-relay': {
        await relays[fault.relay]?.kill()
        await pause(durationMs)
        await relays[fault.relay]?.start()
        return
      }
      case 'hide-relay': {
        const device = `relay${fault.relay + 1}`
        return dropped(`iifname "${device}" drop; oifname "${device}" drop;`, durationMs)
      }
      case 'cut-punched': {
        // by interface: whatever address either home has now
        return dropped('iifname "office" oifname "laptop" drop; iifname "laptop" oifname "office" drop;', durationMs)
      }
      case 'drop': return shaped(fault.home, 1, durationMs)
      case 'loss': return shaped(fault.home, fault.lossRatio, durationMs)
      case 'flap': return flapped(fault.home, fault.times, durationMs)
      case 'public-address': {
        await move(lab.edges[fault.home], 'wan', `50.${HOME_NUMBER[fault.home]}.0`, fault.home, 'public')
        return pause(durationMs)
      }
      case 'lan-address': {
        await move(lab[fault.home], UPLINK, `10.${HOME_NUMBER[fault.home]}.0`, fault.home, 'lan')
        return pause(durationMs)
      }
    }
  }

  /** Packets that the internet does not pass on. */
  async function dropped (rules: string, durationMs: number): Promise<void> {
    const table = `hole${++tableCount}`
    await loadRuleset(lab.internet, `table inet ${table} { chain forward { type filter hook forward priority 0; ${rules} }; }\n`)
    await pause(durationMs)
    await loadRuleset(lab.internet, `delete table inet ${table}\n`)
  }

  async function shaped (role: Home, lossRatio: number, durationMs: number): Promise<void> {
    const line = lab.lines[role]
    if (line === undefined) throw new Error(`the lab has no line for the ${role}`)
    line.shape({ lossRatio })
    await pause(durationMs)
    line.shape({ lossRatio: 0 })
  }

  /** As a cable that is pulled and put back: the routes go with the interface. */
  async function flapped (role: Home, times: number, durationMs: number): Promise<void> {
    const gateway = `10.${HOME_NUMBER[role]}.0.1`
    const { netns } = lab[role]
    for (let time = 0; time < times; time++) {
      await mustRun('ip', ['-n', netns, 'link', 'set', UPLINK, 'down'])
      await pause(durationMs / times / 2)
      await mustRun('ip', ['-n', netns, '-batch', '-'], { input: `link set ${UPLINK} up\nroute replace default via ${gateway}\n` })
      await pause(durationMs / times / 2)
    }
  }

  /** As a router or a DHCP client does it: the old address goes, the new one comes, routes follow. */
  async function move (machine: Namespace, device: string, network: string, role: Home, which: 'public' | 'lan'): Promise<void> {
    const from = hosts[role][which]
    const to = FIRST_HOST + (from - FIRST_HOST + 1) % ADDRESS_COUNT
    hosts[role][which] = to
    await mustRun('ip', ['-n', machine.netns, '-batch', '-'], { input: `addr del ${network}.${from}/24 dev ${device}\naddr add ${network}.${to}/24 dev ${device}\nroute replace default via ${network}.1\n` })
  }
}
