/**
 * Two machines on one cable: network namespaces joined by a veth pair. What goes from machine to machine without a relay is measured here: two
 * daemons on one machine never dial each other, so on plain loopback nothing of theirs is direct.
 */
import { addAddress, createNamespaces, joinByCable, namespaceObstacle } from '../natlab/namespace.ts'
import type { TestNetwork } from '../support/network.ts'

const OFFICE = '50.0.0.1'
const LAPTOP = '50.0.0.2'
/** The relay over which the two become friends; its host is none of theirs, because nobody dials a friend at the host of a relay. */
const RELAY = '50.0.0.3'

/** Makes them; the caller closes the network. A sentence where this machine has no namespaces. */
export async function openCable (): Promise<TestNetwork | string> {
  const obstacle = namespaceObstacle()
  if (obstacle !== undefined) return obstacle
  const namespaces = createNamespaces()
  try {
    const office = await namespaces.add('office', OFFICE)
    const laptop = await namespaces.add('laptop', LAPTOP)
    const officeEnd = { namespace: office, name: 'eth0', cidr: `${OFFICE}/24` }
    await joinByCable(officeEnd, { namespace: laptop, name: 'eth0', cidr: `${LAPTOP}/24` })
    await addAddress({ ...officeEnd, cidr: `${RELAY}/24` })
    return { name: 'natlab', office, laptop, cafe: laptop, relays: [{ ...office, name: 'relay', address: RELAY }], close: async () => { namespaces.close() } }
  } catch (err) {
    namespaces.close()
    throw err
  }
}
