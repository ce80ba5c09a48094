/** Baselines without a handshake per peer: plain TCP, a pair of stunnels, nginx stream, and a chain of Node pipes. */
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findFreePort } from '../support/bootstrap.ts'
import type { TestNetwork } from '../support/network.ts'
import { startProgram } from '../support/program.ts'
import type { Place, Program } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { findTool, processTree, waitListening, withService } from './subject.ts'
import type { RunningSubject } from './subject.ts'

const PIPE_HOPS = ['first', 'second', 'third'] as const
const STREAM_MODULES = ['/usr/lib/nginx/modules/ngx_stream_module.so', '/usr/share/nginx/modules/ngx_stream_module.so', '/usr/lib64/nginx/modules/ngx_stream_module.so']

/** No tunnel at all. */
export async function startPlain (network: TestNetwork): Promise<RunningSubject | string> {
  return withService(network, async (port) => ({ port, host: network.office.address, processes: {} }))
}

/** Two stunnels, TLS 1.3 with AES-128-GCM between them. */
export async function startStunnel (network: TestNetwork): Promise<RunningSubject | string> {
  const stunnel = findTool('stunnel4') ?? findTool('stunnel')
  const openssl = findTool('openssl')
  if (stunnel === undefined || openssl === undefined) return 'install stunnel4 and openssl'
  return withService(network, async (servicePort, own) => {
    const directory = makeTempDirectory('stunnel')
    const certificate = join(directory, 'certificate.pem')
    const key = join(directory, 'key.pem')
    execFileSync(openssl, ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=bench', '-keyout', key, '-out', certificate], { stdio: 'pipe' })
    const one = async (role: string, place: Place, addresses: { accept: string, connect: string }, lines: string[]): Promise<{ program: Program, port: number }> => {
      const port = await findFreePort()
      const config = join(directory, `${role}.conf`)
      writeFileSync(config, ['foreground = yes', 'pid =', 'debug = err', 'socket = l:TCP_NODELAY=1', 'socket = r:TCP_NODELAY=1', `[${role}]`, `accept = ${addresses.accept}:${port}`, `connect = ${addresses.connect}`, 'sslVersion = TLSv1.3', 'ciphersuites = TLS_AES_128_GCM_SHA256', ...lines, ''].join('\n'))
      const program = startProgram(stunnel, [config], { place, name: `stunnel ${role}` })
      own(program.stop)
      await waitListening(port, program)
      return { program, port }
    }
    const server = await one('server', network.office, { accept: network.office.address, connect: `127.0.0.1:${servicePort}` }, [`cert = ${certificate}`, `key = ${key}`])
    const client = await one('client', network.laptop, { accept: '127.0.0.1', connect: `${network.office.address}:${server.port}` }, ['client = yes', 'verifyChain = no', `CAfile = ${certificate}`, 'verifyPeer = yes'])
    return { port: client.port, processes: { server: processTree(server.program.pid), client: processTree(client.program.pid) } }
  })
}

/** nginx as a TCP proxy, one process: what a relay that reads nothing costs in C. */
export async function startNginx (network: TestNetwork): Promise<RunningSubject | string> {
  const nginx = findTool('nginx')
  const module = STREAM_MODULES.find((path) => existsSync(path))
  if (nginx === undefined || module === undefined) return 'install nginx and libnginx-mod-stream'
  return withService(network, async (servicePort, own) => {
    const directory = makeTempDirectory('nginx')
    const port = await findFreePort()
    const config = join(directory, 'nginx.conf')
    writeFileSync(config, `load_module ${module};
daemon off; master_process off; pid ${directory}/nginx.pid; error_log stderr error;
${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 4096; }
stream { server { listen 127.0.0.1:${port}; proxy_pass 127.0.0.1:${servicePort}; tcp_nodelay on; proxy_half_close on; } }
`)
    const program = startProgram(nginx, ['-p', directory, '-e', 'stderr', '-c', config], { name: 'nginx' })
    own(program.stop)
    await waitListening(port, program)
    return { port, processes: { relay: processTree(program.pid) } }
  })
}

/** Three Node processes that pipe sockets, unencrypted: what three hops cost when nothing else is done. */
export async function startPipes (network: TestNetwork): Promise<RunningSubject | string> {
  return withService(network, async (servicePort, own) => {
    let port = servicePort
    const processes: Record<string, number[]> = {}
    for (const hop of PIPE_HOPS.toReversed()) {
      const program = startProgram(process.execPath, [join(import.meta.dirname, 'pipe-main.ts'), String(port)], { name: `${hop} pipe` })
      own(program.stop)
      port = (JSON.parse(await program.line(0)) as { port: number }).port
      processes[hop] = [program.pid]
    }
    return { port, processes }
  })
}
