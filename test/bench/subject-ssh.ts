/** OpenSSH port forwards, direct and through a jump host: own sshd's with keys of this run, nothing of the system's configuration. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { findFreePort } from '../support/bootstrap.ts'
import type { TestNetwork } from '../support/network.ts'
import { startProgram } from '../support/program.ts'
import type { Place, Program } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { findTool, processTree, waitListening, withService } from './subject.ts'
import type { RunningSubject } from './subject.ts'

const MISSING = 'install openssh-server and openssh-client'
const CIPHER = 'aes128-gcm@openssh.com'
/** Where a sshd of root wants an empty directory. */
const SEPARATION_DIRECTORY = '/run/sshd'

/** `ssh -L PORT:127.0.0.1:SERVICE`, straight to the server. */
export async function startSsh (network: TestNetwork): Promise<RunningSubject | string> {
  return start(network, false)
}

/** The same with `-J`: the encryption ends at the server, the jump host passes it on inside its own. */
export async function startSshThroughJumpHost (network: TestNetwork): Promise<RunningSubject | string> {
  return start(network, true)
}

async function start (network: TestNetwork, hasJumpHost: boolean): Promise<RunningSubject | string> {
  const [ssh, sshd, keygen] = ['ssh', 'sshd', 'ssh-keygen'].map(findTool)
  if (ssh === undefined || sshd === undefined || keygen === undefined) return MISSING
  return withService(network, async (servicePort, own) => {
    const directory = makeTempDirectory('ssh')
    for (const name of ['host', 'user']) execFileSync(keygen, ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, name)])
    copyFileSync(join(directory, 'user.pub'), join(directory, 'authorized_keys'))
    const { office, laptop } = network
    const server = await startServer(sshd, directory, office)
    own(server.program.stop)
    const jump = hasJumpHost ? await startServer(sshd, directory, office) : undefined
    if (jump !== undefined) own(jump.program.stop)
    const config = writeClientConfig(directory, office.address, { target: server.port, ...(jump === undefined ? {} : { jump: jump.port }) })
    const port = await findFreePort()
    const client = startProgram(ssh, ['-F', config, '-N', '-L', `127.0.0.1:${port}:127.0.0.1:${servicePort}`, ...(jump === undefined ? [] : ['-J', 'jump']), 'target'], { place: laptop, name: 'ssh' })
    own(client.stop)
    await waitListening(port, client)
    return {
      port,
      processes: {
        server: processTree(server.program.pid),
        ...(jump === undefined ? {} : { jump: processTree(jump.program.pid) }),
        client: processTree(client.pid)
      }
    }
  })
}

async function startServer (sshd: string, directory: string, place: Place): Promise<{ program: Program, port: number }> {
  const port = await findFreePort()
  const config = join(directory, `sshd-${port}.conf`)
  writeFileSync(config, [
    `Port ${port}`, `ListenAddress ${place.address}`, `HostKey ${join(directory, 'host')}`, `AuthorizedKeysFile ${join(directory, 'authorized_keys')}`,
    'StrictModes no', 'PidFile none', 'UsePAM no', 'PasswordAuthentication no', 'KbdInteractiveAuthentication no', 'PermitRootLogin prohibit-password',
    `Ciphers ${CIPHER}`, 'MaxStartups 1000', 'MaxSessions 1000', 'PrintMotd no', 'LogLevel ERROR', ''
  ].join('\n'))
  const command = [sshd, '-D', '-e', '-f', config]
  // a mount namespace of its own has the directory, so the system needs no change
  const isBare = process.getuid?.() === 0 && !existsSync(SEPARATION_DIRECTORY)
  const program = isBare
    ? startProgram('unshare', ['--mount', 'sh', '-c', `mount -t tmpfs none /run && mkdir -m 755 ${SEPARATION_DIRECTORY} && exec "$@"`, 'sh', ...command], { place, name: 'sshd' })
    : startProgram(sshd, command.slice(1), { place, name: 'sshd' })
  await waitListening(port, program)
  return { program, port }
}

function writeClientConfig (directory: string, host: string, ports: { target: number, jump?: number }): string {
  const knownHosts = join(directory, 'known_hosts')
  const [kind = '', key = ''] = readFileSync(join(directory, 'host.pub'), 'utf8').split(' ')
  writeFileSync(knownHosts, Object.values(ports).map((port) => `[${host}]:${port} ${kind} ${key}\n`).join(''))
  const common = [
    `User ${userInfo().username}`, `IdentityFile ${join(directory, 'user')}`, 'IdentitiesOnly yes', `UserKnownHostsFile ${knownHosts}`, 'GlobalKnownHostsFile none',
    'StrictHostKeyChecking yes', 'BatchMode yes', `Ciphers ${CIPHER}`, 'Compression no', 'ExitOnForwardFailure yes', 'ControlMaster no', 'LogLevel ERROR'
  ].map((line) => `  ${line}\n`).join('')
  const path = join(directory, 'ssh.conf')
  writeFileSync(path, Object.entries(ports).map(([name, port]) => `Host ${name}\n  HostName ${host}\n  Port ${port}\n${common}`).join(''))
  return path
}
