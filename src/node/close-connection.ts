/** The end of a connection that nobody waits for. */
import type { Connection } from '@libp2p/interface'
import { CarrierError, errorMessage } from '../base/index.ts'

/** Closes a connection gracefully, so that a refusal that was written still arrives; one that cannot be closed is reset. */
export function closeSoon (connection: Pick<Connection, 'close' | 'abort'>): void {
  connection.close().catch((err: unknown) => {
    connection.abort(err instanceof Error ? err : new CarrierError('ERR_LINK_LOST', errorMessage(err)))
  })
}
