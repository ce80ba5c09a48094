/**
 * Root directories with nothing in them but what a test puts there, in a mount and a network namespace of their own (Linux, root):
 * busybox, Node with its libraries, npm. They stand for the Alpine image of Node; only the C library differs.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { mustRun, startProgram } from './program.ts'
import type { Place, Program } from './program.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { PATIENT, waitFor } from './wait.ts'

/** Places in which the commands of a clean root run. */
export interface CleanRoots {
  /** A new root, in memory. */
  create: (name: string) => Promise<CleanRoot>
  close: () => Promise<void>
}

/** How a command runs inside. */
export interface InsideOptions {
  /** UID:GID; root when absent. */
  user?: string
  cwd?: string
  /** The network of this machine, for package registries; else nothing but loopback. */
  hasNetwork?: boolean
  /** As process 1 of its own process namespace, as in a container. */
  isFirstProcess?: boolean
}

/** One root directory. */
export interface CleanRoot {
  /** Its path, seen by {@link CleanRoot.outside} only. */
  readonly directory: string
  /** Where a command runs inside. */
  place: (options?: InsideOptions) => Place
  /** Where a command of this machine runs that sees the mounts. */
  outside: Place
  mount: (...args: string[]) => Promise<void>
}

const NPM_PLACE = '/usr/local/lib/node_modules/npm'
const MAIN = { name: 'outside', address: '127.0.0.1' } as const

/** Why roots cannot be made here; undefined when they can. */
export function cleanRootObstacle (): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'clean roots need Linux and root'
  if (!existsSync('/bin/busybox')) return 'missing busybox (Debian: busybox-static)'
  try {
    execFileSync('unshare', ['--mount', '--net', '--pid', '--fork', 'true'], { stdio: 'pipe' })
    return undefined
  } catch (err) {
    return `this machine does not allow namespaces: ${err instanceof Error ? err.message : String(err)}`
  }
}

/** Opens the namespaces; they go with the process that holds them, at `close` or when the test process ends. */
export async function openCleanRoots (): Promise<CleanRoots> {
  const holder = startProgram('unshare', ['--mount', '--net', '--propagation', 'private', '/bin/sh', '-c', 'ip link set lo up && echo ready && exec sleep infinity'], { name: 'holder of clean roots' })
  await holder.line(0)
  const enter = (hasNetwork: boolean): string[] => ['--target', String(holder.pid), '--mount', ...hasNetwork ? [] : ['--net']]
  const outside: Place = { ...MAIN, wrap: (command, args) => ['nsenter', [...enter(false), command, ...args]] }
  const base = makeTempDirectory('roots')
  return {
    create: async (name) => {
      const directory = join(base, name)
      mkdirSync(directory)
      await mustRun('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', directory], { place: outside })
      const place = (options: InsideOptions = {}): Place => ({ ...MAIN, name, wrap: (command, args) => ['nsenter', [...enter(options.hasNetwork === true), ...insideCommand(directory, options), command, ...args]] })
      return { directory, place, outside, mount: async (...args) => { await mustRun('mount', args, { place: outside }) } }
    },
    close: async () => { await holder.stop({ signal: 'SIGKILL' }) }
  }
}

function insideCommand (directory: string, { user = '0:0', cwd = '/', isFirstProcess = false }: InsideOptions): string[] {
  return [
    ...isFirstProcess ? ['unshare', '--pid', '--fork', '--kill-child', `--mount-proc=${join(directory, 'proc')}`] : [],
    'chroot', `--userspec=${user}`, '--groups=', directory, 'sh', '-c', `cd '${cwd}' && exec "$0" "$@"`
  ]
}

/** The whole environment of a command inside: nothing of this process gets in. */
export function insideEnvironment (env: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', ...env }
}

/** Puts in what the base image has: busybox, Node of this process, npm, the user "node"; without Node and npm, its libraries stay. */
export async function furnishLikeNodeImage (root: CleanRoot, { hasNode = true }: { hasNode?: boolean } = {}): Promise<void> {
  const staging = makeTempDirectory('base')
  for (const folder of ['bin', 'dev', 'etc', 'home/node', 'proc', 'root', 'tmp', 'usr/bin', 'usr/local/bin', 'lib', NPM_PLACE]) mkdirSync(join(staging, folder), { recursive: true })
  copyFileSync('/bin/busybox', join(staging, 'bin/busybox'))
  for (const applet of execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).split('\n').filter((name) => name !== '' && name !== 'busybox')) symlinkSync('/bin/busybox', join(staging, 'bin', applet))
  symlinkSync('/bin/env', join(staging, 'usr/bin/env'))
  writeFileSync(join(staging, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n')
  writeFileSync(join(staging, 'etc/group'), 'root:x:0:\nnode:x:1000:\n')
  for (const file of ['resolv.conf', 'hosts', 'nsswitch.conf']) if (existsSync(join('/etc', file))) copyFileSync(realpathSync(join('/etc', file)), join(staging, 'etc', file))
  for (const library of librariesOf(process.execPath)) {
    mkdirSync(join(staging, dirname(library)), { recursive: true })
    copyFileSync(realpathSync(library), join(staging, library))
  }
  writeFileSync(join(staging, 'usr/local/bin/node'), '')
  for (const name of ['npm', 'npx']) symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(staging, 'usr/local/bin', name))
  await mustRun('cp', ['-a', `${staging}/.`, root.directory], { place: root.outside })
  await mustRun('chmod', ['1777', join(root.directory, 'tmp')], { place: root.outside })
  await mustRun('chmod', ['0755', root.directory], { place: root.outside })
  if (hasNode) {
    await root.mount('--bind', process.execPath, join(root.directory, 'usr/local/bin/node'))
    await root.mount('--bind', npmDirectory(), join(root.directory, NPM_PLACE))
  }
  for (const device of ['null', 'zero', 'random', 'urandom']) {
    const file = join(root.directory, 'dev', device)
    await mustRun('touch', [file], { place: root.outside })
    await root.mount('--bind', join('/dev', device), file)
  }
}

/** Shared libraries that a program names, with the loader. */
function librariesOf (file: string): string[] {
  return [...execFileSync('ldd', [file], { encoding: 'utf8' }).matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? '')
}

/** Where this machine's npm is: the one that runs this test, or the one on PATH. */
function npmDirectory (): string {
  const script = process.env['npm_execpath'] ?? realpathSync(execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim())
  const directory = dirname(dirname(realpathSync(script)))
  if (!existsSync(join(directory, 'package.json'))) throw new Error(`${directory} is not npm`)
  return directory
}

/** What npm needs inside to find the registry that it is configured with here; packages come from its cache when they are there. */
export async function lendNpm (root: CleanRoot, cacheTarget: string): Promise<Record<string, string>> {
  const setting = (name: string): string => execFileSync('npm', ['config', 'get', name], { encoding: 'utf8', cwd: '/', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  const target = join(root.directory, cacheTarget)
  await mustRun('mkdir', ['-p', target], { place: root.outside })
  await root.mount('--bind', setting('cache'), target)
  const env: Record<string, string> = { npm_config_cache: cacheTarget, npm_config_registry: setting('registry'), npm_config_prefer_offline: 'true', npm_config_update_notifier: 'false' }
  for (const name of ['HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY', 'https_proxy', 'http_proxy', 'no_proxy']) {
    const value = process.env[name]
    if (value !== undefined) env[name] = value
  }
  const authorities = process.env['NODE_EXTRA_CA_CERTS']
  if (authorities !== undefined && existsSync(authorities)) {
    await mustRun('cp', ['-L', authorities, join(root.directory, 'etc/extra-ca.pem')], { place: root.outside })
    env['NODE_EXTRA_CA_CERTS'] = '/etc/extra-ca.pem'
  }
  return env
}

/** The pid, out here, of the process that is number 1 in there. */
export async function firstProcess (program: Program): Promise<number> {
  return waitFor(`the first process of ${program.name}`, () => {
    const children = readFileSync(`/proc/${program.pid}/task/${program.pid}/children`, 'utf8').trim().split(' ')
    return Number(children[0]) > 0 && Number(children[0])
  }, PATIENT)
}
