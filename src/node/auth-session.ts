/** Auth on control channel 0 of a session: the frames of `/carrier/auth/1.0.0`, bound to the session and to the link that they run on. */
import { randomBytes } from 'node:crypto'
import { CarrierError, errorCode, errorMessage } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Credentials, Did, Identity, SessionBinding } from '../identity/index.ts'
import { runInitiator, runResponder } from './auth.ts'
import type { AuthChannel, AuthResult } from './auth.ts'
import type { PeerLevel } from './types.ts'

/** What a prover needs. */
export interface SessionProverComponents {
  identity: Pick<Identity, 'did' | 'sign' | 'instanceId'>
  levelOf: (device: Did) => PeerLevel
  /** By its wall clock credentials expire. */
  clock: Pick<Clock, 'now'>
  /** Nothing is shown, and everything accepted for ever, when absent. */
  credentials?: Credentials | undefined
}

/** One exchange. */
export interface SessionProof extends SessionBinding {
  device: Did
  /** The controller of the session begins. */
  isController: boolean
}

/** Until when what was shown in an exchange holds. */
export type SessionProofResult = Pick<AuthResult, 'acceptedUntilSeconds' | 'expiresAtSeconds'>

/** Proves this device inside of sessions, and has the other end prove itself. */
export interface SessionProver {
  /** Wall clock, epoch ms: the one by which credentials expire. */
  now: () => number
  /**
   * One exchange over `channel`, whose `read` rejects when it is given up.
   *
   * @throws CarrierError ERR_PROTOCOL (wrong proof or frame), ERR_REVOKED (one side does not accept what the other showed, or the
   *   friendship ended), ERR_UNSUPPORTED_VERSION, or what `read` rejects with
   */
  prove: (channel: AuthChannel, proof: SessionProof) => Promise<SessionProofResult>
}

/** Creates the prover of this device. */
export function createSessionProver (components: SessionProverComponents): SessionProver {
  const { identity, levelOf, clock } = components
  const auth = {
    identity,
    levelOf,
    credentials: components.credentials === undefined ? undefined : revoking(components.credentials),
    random: (length: number) => new Uint8Array(randomBytes(length)),
    // friends hear of addresses over /carrier/addresses
    listenAddresses: () => []
  }
  return {
    now: () => clock.now(),
    prove: async (channel, { device, isController, sessionId, epoch }) => {
      if (levelOf(device) !== 'friend') throw new CarrierError('ERR_REVOKED', 'the friendship ended')
      try {
        return await (isController ? runInitiator : runResponder)(auth, channel, device, { sessionId, epoch })
      } catch (err) {
        // the constant refusal of auth is for strangers; the two ends of a session tell each other the code
        throw errorCode(err) === 'ERR_NOT_AVAILABLE' ? revoked(err) : err
      }
    }
  }
}

/** Whatever is wrong with what the other end shows, the session has no ground any more. */
function revoking (credentials: Credentials): Credentials {
  return {
    presentTo: (device) => credentials.presentTo(device),
    judge: (device, present) => {
      try {
        return credentials.judge(device, present)
      } catch (err) {
        throw revoked(err)
      }
    }
  }
}

function revoked (err: unknown): CarrierError {
  return new CarrierError('ERR_REVOKED', `the proof was not accepted: ${errorMessage(err)}`, { cause: err })
}
