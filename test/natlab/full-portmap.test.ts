/** Ports at a home router, and a home without internet. */
import { describeLocalNetwork } from './portmap-lan-scenario.ts'
import { describePortMaps } from './portmap-scenario.ts'

describePortMaps(['pcp', 'upnp'])
describeLocalNetwork()
