/** What each method of the control API does with the engine. */
import type { z } from 'zod'
import type { Carrier } from '../../carrier-types.ts'
import type { METHODS, MethodName, MethodOutput } from '../client/index.ts'
import { checkConfigFile } from './config-check.ts'
import type { PipeTable } from './pipe-table.ts'
import { viewForward, viewFriends, viewService, viewStatus } from './views.ts'

/** What handlers work with. */
export interface HandlerComponents {
  carrier: Carrier
  pipes: PipeTable
  info: () => MethodOutput<'daemon.info'>
}

/** One call: its signal fires when the client goes away. */
export interface CallOptions { signal: AbortSignal }

/** A handler for every method of the table; the compiler knows when one is missing. */
export type Handlers = {
  [Name in MethodName]: (input: z.output<(typeof METHODS)[Name]['input']>, options: CallOptions) => MethodOutput<Name> | Promise<MethodOutput<Name>>
}

/** Makes the handlers. `daemon.stop` only answers; the server stops after the answer has left. */
export function createHandlers ({ carrier, pipes, info }: HandlerComponents): Handlers {
  const { friends, forwarding, addresses } = carrier
  return {
    'daemon.info': () => info(),
    'daemon.status': () => viewStatus(carrier),
    'daemon.stop': () => ({ pid: info().pid }),
    'daemon.metrics': async () => ({ text: await carrier.metrics.text() }),
    'identity.show': () => ({ did: carrier.identity.did, peerId: carrier.identity.peerId.toString(), address: addresses.current()?.address }),

    'address.new': ({ name }) => addresses.create(name),
    'address.list': () => ({ addresses: addresses.list() }),
    'address.revoke': ({ label }) => addresses.revoke(label),

    'friend.add': ({ address, hello, label }) => ({ did: friends.add(address, { ...(hello === undefined ? {} : { hello }), ...(label === undefined ? {} : { label }) }) }),
    'friend.list': () => viewFriends(carrier),
    'friend.requests': () => ({ requests: friends.requests() }),
    'friend.accept': ({ who, label }) => named(friends.accept(who, label === undefined ? {} : { label })),
    'friend.reject': ({ who }) => ({ did: friends.reject(who) }),
    'friend.ignore': ({ who }) => ({ did: friends.ignore(who) }),
    'friend.remove': async ({ who }) => ({ did: await friends.remove(who) }),
    'friend.block': async ({ who }) => ({ did: await friends.block(who) }),
    'friend.unblock': ({ who }) => ({ did: friends.unblock(who) }),
    'friend.blocked': () => ({ blocked: friends.blocked() }),
    'friend.label': ({ who, label }) => named(friends.label(who, label)),
    'node.netcheck': async (_input, options) => carrier.netcheck(options),
    'node.doctor': async (_input, options) => {
      const [config, { checks }] = await Promise.all([checkConfigFile(info().configFile, info().startedAt), carrier.doctor(options)])
      return { checks: [config, ...checks] }
    },
    'friend.why': async ({ to }, options) => carrier.why(to, options),
    'friend.trace': async ({ to }, options) => carrier.trace(to, options),
    'friend.ping': async ({ who }, options) => carrier.ping(who, options),

    'service.serve': ({ name, target, allow }) => viewService(carrier, forwarding.serve(name, target, allow === undefined ? {} : { allow }).name),
    'service.unserve': ({ name }) => {
      forwarding.unserve(name)
      return { name }
    },
    'service.list': () => ({ services: carrier.status().services }),
    'service.remote': async ({ who }, options) => ({ ...named(friends.resolve(who)), services: await forwarding.remoteServices(who, options) }),
    'service.grant': ({ who, service }) => viewService(carrier, forwarding.grant(who, service).name),
    'service.revoke': ({ who, service }) => forwarding.revoke(who, service),

    'forward.open': async ({ host, port, to, once }, options) => viewForward(await forwarding.openForward(
      { port, to, ...(host === undefined ? {} : { host }), ...(once === undefined ? {} : { once }) }, options)),
    'forward.list': () => ({ forwards: forwarding.forwards().map(viewForward) }),
    'forward.close': async ({ port }) => {
      const { listen, to } = await forwarding.closeForward(port)
      return { listen, to }
    },

    'pipe.reset': ({ id }) => {
      pipes.reset(id)
      return {}
    },
    'pipe.result': async ({ id, until }, { signal }) => pipes.result(id, until, signal)
  }
}

function named (friend: { owner: string, label: string }): { did: string, label: string } {
  return { did: friend.owner, label: friend.label }
}
