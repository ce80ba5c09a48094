/** What the parts of a TLS link are given. */
import type { Socket } from 'node:net'
import type { Did, LinkCertificate } from '../identity/index.ts'
import type { Path } from '../node/index.ts'

/** What a TLS link is made of. */
export interface TlsLinkInit {
  /** Connected, past its ticket, nobody else reads or writes it. The link owns it from the call on: destroying it elsewhere may end the process, see `destroyTls`. */
  socket: Socket
  /** The end with the lower key is the TLS client, whoever connected. */
  isController: boolean
  certificate: LinkCertificate
  /** Whom the other end must prove to be. */
  device: Did
  kind: 'splice' | 'direct'
  path: Path
  relayPeerId: string | undefined
  signal?: AbortSignal
}
