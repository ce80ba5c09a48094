/** Network namespaces: made, joined and removed; the places of a lab in which programs run. */
import { execFileSync } from 'node:child_process'
import { accessSync, constants, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { mustRun, onTestExit } from '../support/program.ts'
import type { Place } from '../support/program.ts'

/** One machine of a lab. */
export interface Namespace extends Place {
  /** The kernel's name of the namespace, unique to this process. */
  readonly netns: string
}

/** One end of a cable: an interface in a namespace, with its address. */
export interface LinkEnd { namespace: Namespace, name: string, cidr: string }

const PREFIX = 'carrier-lab-'
/** Labs of this process so far: several may be open at once. */
let labCount = 0
const TOOLS = ['ip', 'nft', 'ss', 'tcpdump', 'python3', 'runuser']

/** Why namespaces cannot be used here; undefined when they can. */
export function namespaceObstacle (): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces need Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  const missing = TOOLS.filter((tool) => !isOnPath(tool))
  if (missing.length > 0) return `missing ${missing.join(', ')} (Debian: iproute2 nftables tcpdump python3 util-linux)`
  const probe = `${PREFIX}${process.pid}-probe`
  try {
    execFileSync('ip', ['netns', 'add', probe], { stdio: 'pipe' })
    execFileSync('ip', ['netns', 'exec', probe, 'nft', 'list', 'ruleset'], { stdio: 'pipe' })
    return undefined
  } catch (err) {
    return `this machine does not allow network namespaces: ${err instanceof Error ? err.message : String(err)}`
  } finally {
    removeNamespace(probe)
  }
}

/** Makes namespaces of one lab and removes them with every process inside, at `close` or when the test process ends. */
export function createNamespaces (): { add: (role: string, address: string) => Promise<Namespace>, close: () => void } {
  const names: string[] = []
  const lab = `${PREFIX}${process.pid}-${++labCount}`
  removeAbandoned()
  const removeAll = (): void => { for (const name of names.splice(0)) removeNamespace(name) }
  const forget = onTestExit(removeAll)
  return {
    add: async (role, address) => {
      const netns = `${lab}-${role}`
      names.push(netns)
      await mustRun('ip', ['netns', 'add', netns])
      await mustRun('ip', ['-n', netns, 'link', 'set', 'lo', 'up'])
      return { name: role, netns, address, wrap: (command, args) => ['ip', ['netns', 'exec', netns, command, ...args]] }
    },
    close: () => {
      removeAll()
      forget()
    }
  }
}

/** Joins two namespaces by a virtual cable. */
export async function joinByCable (left: LinkEnd, right: LinkEnd): Promise<void> {
  await mustRun('ip', ['-n', left.namespace.netns, 'link', 'add', left.name, 'type', 'veth', 'peer', 'name', right.name, 'netns', right.namespace.netns])
  await bringUp(left)
  await bringUp(right)
}

/** Joins machines to a switch of `at.namespace`, which has `at` as an address of its own there: one local network. */
export async function joinBySwitch (at: LinkEnd, machines: readonly LinkEnd[]): Promise<void> {
  await mustRun('ip', ['-n', at.namespace.netns, 'link', 'add', at.name, 'type', 'bridge'])
  await bringUp(at)
  for (const [index, machine] of machines.entries()) {
    const port = `${at.name}${index + 1}`
    await mustRun('ip', ['-n', at.namespace.netns, 'link', 'add', port, 'type', 'veth', 'peer', 'name', machine.name, 'netns', machine.namespace.netns])
    await mustRun('ip', ['-n', at.namespace.netns, 'link', 'set', port, 'master', at.name, 'up'])
    await bringUp(machine)
  }
}

/** Gives an existing interface its address and switches it on. */
export async function bringUp ({ namespace, name, cidr }: LinkEnd): Promise<void> {
  await mustRun('ip', ['-n', namespace.netns, '-batch', '-'], { input: `addr add ${cidr} dev ${name}\nlink set ${name} up\n` })
}

/** Gives an interface that is on one more address. */
export async function addAddress ({ namespace, name, cidr }: LinkEnd): Promise<void> {
  await mustRun('ip', ['-n', namespace.netns, 'addr', 'add', cidr, 'dev', name])
}

/** Sets a route of a namespace, by default the default route. */
export async function routeVia (namespace: Namespace, gateway: string, to = 'default'): Promise<void> {
  await mustRun('ip', ['-n', namespace.netns, 'route', 'add', to, 'via', gateway])
}

/** Lets a namespace pass packets on. */
export async function makeRouter (namespace: Namespace): Promise<void> {
  await mustRun('sh', ['-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'], { place: namespace })
}

/** IPv6 addresses that are added later can be used at once: nobody is asked whether they are taken. */
export async function skipAddressDetection (namespace: Namespace): Promise<void> {
  await mustRun('sh', ['-c', 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad'], { place: namespace })
}

/** Puts an nftables rule set in force. */
export async function loadRuleset (namespace: Namespace, ruleset: string): Promise<void> {
  await mustRun('nft', ['-f', '-'], { place: namespace, input: ruleset })
}

/** Where a tool is on the PATH, if anywhere. */
function isOnPath (tool: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, tool), constants.X_OK)
      return true
    } catch {
      // not in this directory; the next one may have it
      return false
    }
  })
}

function removeNamespace (netns: string): void {
  try {
    // whatever still runs inside was started there by the lab
    const pids = execFileSync('ip', ['netns', 'pids', netns], { stdio: 'pipe' }).toString().split('\n').filter((pid) => pid !== '')
    for (const pid of pids) {
      try {
        process.kill(Number(pid), 'SIGKILL')
      } catch { /* it ended by itself meanwhile */ }
    }
    execFileSync('ip', ['netns', 'del', netns], { stdio: 'pipe' })
  } catch { /* it never came to be: nothing to remove */ }
}

/** A lab whose process was killed with SIGKILL could not clean up: the next one does. */
function removeAbandoned (): void {
  for (const name of namesOfNamespaces()) {
    const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1]
    if (owner !== undefined && !isAlive(Number(owner))) removeNamespace(name)
  }
}

function namesOfNamespaces (): string[] {
  try {
    return readdirSync('/run/netns')
  } catch {
    // the directory appears with the first namespace
    return []
  }
}

function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    // ESRCH; root gets no EPERM
    return false
  }
}
