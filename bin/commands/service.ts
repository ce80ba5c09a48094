/** `carrier serve, unserve, grant, revoke, services`: what we offer and to whom. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { openContext } from '../context.ts'
import { count } from '../output.ts'
import { describeServices } from './status.ts'

/** Adds the commands. */
export function addServiceCommands (program: Command): void {
  program.command('serve').argument('<name>').argument('<target>', 'PORT, HOST:PORT or unix:PATH').description('offer a service to friends; dark until someone is allowed')
    .option('--allow <who>', 'let this friend dial it (repeatable)', collect)
    .action(async (name: string, target: string, options: { allow?: string[] }, command: Command) => {
      const context = openContext(command)
      const service = await context.client.call('service.serve', { name, target: absoluteTarget(target), ...options })
      const reach = service.allow.length === 0
        ? `dark: nobody may dial it yet; let someone in: carrier grant WHO ${service.name}`
        : `${count(service.allow.length, 'friend')} may dial it`
      context.print('serve', service, `${service.name} → ${service.target}   ${reach}`)
    })

  program.command('unserve').argument('<name>').description('stop offering a service; live connections end')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = openContext(command)
      const answer = await context.client.call('service.unserve', { name })
      context.print('unserve', answer, `${answer.name} is no longer offered`)
    })

  program.command('grant').argument('<who>').argument('<service>').description('let a friend dial a service')
    .action(async (who: string, service: string, _options: unknown, command: Command) => {
      const context = openContext(command)
      const answer = await context.client.call('service.grant', { who, service })
      context.print('grant', answer, `${who} may dial ${answer.name} now, with: carrier forward PORT WHO/${answer.name}`)
    })

  program.command('revoke').argument('<who>').argument('[service]').description('withdraw a service, or all, from a friend; live connections are cut')
    .action(async (who: string, service: string | undefined, _options: unknown, command: Command) => {
      const context = openContext(command)
      const answer = await context.client.call('service.revoke', { who, ...(service === undefined ? {} : { service }) })
      const what = answer.services.length === 0 ? 'Nothing was granted to them.' : `Revoked: ${answer.services.join(', ')}.`
      context.print('revoke', answer, `${what} ${count(answer.closedConnections, 'live connection')} cut.`)
    })

  program.command('services').argument('[who]').description('services that you offer, or that a friend lets you dial')
    .action(async (who: string | undefined, _options: unknown, command: Command) => {
      const context = openContext(command)
      if (who !== undefined) {
        const answer = await context.client.call('service.remote', { who })
        context.print('services WHO', answer, answer.services.length === 0 ? `${answer.label} lets you dial nothing` : answer.services.join('\n'))
        return
      }
      const [{ services }, { friends }] = await Promise.all([context.client.call('service.list', {}), context.client.call('friend.list', {})])
      const labels = new Map(friends.map(({ did, label }) => [did, label]))
      context.print('services', services, services.length === 0 ? 'nothing is offered; offer a service: carrier serve NAME TARGET' : describeServices(services, labels))
    })
}

/** Gathers a repeatable option. */
function collect (value: string, previous: string[] = []): string[] {
  return [...previous, value]
}

/** The daemon has a working directory of its own: a relative path means ours. */
function absoluteTarget (target: string): string {
  return target.startsWith('unix:') ? `unix:${resolve(target.slice('unix:'.length))}` : target
}
