/** The revocable secret part of an address: 2 bytes of label number, 6 bytes of a MAC over it. Nothing is stored per address. PROTOCOL.md "Address". */
import { createHmac } from 'node:crypto'
import { CarrierError, concatBytes, equalSecrets, utf8Encode } from '../base/index.ts'

/** Length of a nospam. */
export const NOSPAM_BYTES = 8

const DOMAIN = utf8Encode('carrier/nospam/v1\0')
const LABEL_BYTES = 2
const MAC_BYTES = 6
const MAX_LABEL_NUMBER = 0xffff

/** From what nospams of a device are made. */
export interface NospamKeys {
  /** 32 bytes that never leave the device. */
  nospamSecret: Uint8Array
  /** The device key that stands in the address. */
  publicKey: Uint8Array
}

/** The nospam of label number 1 to 65535. Number 0 is reserved for a public address. */
export function deriveNospam (keys: NospamKeys, labelNumber: number): Uint8Array {
  if (!Number.isInteger(labelNumber) || labelNumber < 1 || labelNumber > MAX_LABEL_NUMBER) {
    throw new CarrierError('ERR_INVALID_ARGUMENT', `an address label has a number from 1 to ${MAX_LABEL_NUMBER}, not ${labelNumber}`)
  }
  const label = Uint8Array.of(labelNumber >> 8, labelNumber & 0xff)
  return concatBytes([label, nospamMac(keys, label)])
}

/** The label number that `nospam` was made for; undefined when it was not made by this device. Compares in constant time. */
export function verifyNospam (keys: NospamKeys, nospam: Uint8Array): number | undefined {
  if (nospam.length !== NOSPAM_BYTES) return undefined
  const label = nospam.subarray(0, LABEL_BYTES)
  const isGenuine = equalSecrets(nospam.subarray(LABEL_BYTES), nospamMac(keys, label))
  const labelNumber = ((label[0] ?? 0) << 8) | (label[1] ?? 0)
  return isGenuine && labelNumber > 0 ? labelNumber : undefined
}

function nospamMac (keys: NospamKeys, label: Uint8Array): Uint8Array {
  const mac = createHmac('sha256', keys.nospamSecret).update(DOMAIN).update(label).update(keys.publicKey).digest()
  return new Uint8Array(mac.subarray(0, MAC_BYTES))
}
