/** The operator's admission lists, those in the configuration and those in files put together. */
import { readFileSync, statSync } from 'node:fs'
import { CarrierError, LIMITS, errorMessage } from '../base/index.ts'
import { placePrefix } from './config-place.ts'
import { parseAdmissionList } from './admission-lists.ts'
import type { AdmissionLists, AdmissionPolicy } from './admission-lists.ts'

/** The configuration of admission: entries that stand in it, and files. `where`: the places in the configuration that name them, as `FILE:LINE`. */
export interface AdmissionSettings extends AdmissionPolicy {
  files: Partial<Record<keyof AdmissionLists, string>>
  where?: Record<keyof AdmissionLists | 'mode', string>
}

/** Reads the files. @throws CarrierError ERR_CONFIG `FILE:LINE: what is wrong`, also for a mode that serves nobody */
export function readAdmission ({ mode, callers, lists, files, where }: AdmissionSettings): AdmissionPolicy {
  const complete = { allow: readList(lists.allow, files.allow, where?.allow), members: readList(lists.members, files.members, where?.members), friends: readList(lists.friends, files.friends, where?.friends) }
  const served = { open: 1, 'allow-list': complete.allow.size + complete.members.size + complete.friends.size, members: complete.members.size, friends: complete.friends.size }[mode]
  if (served === 0) throw new CarrierError('ERR_CONFIG', `${placePrefix(where?.mode)}admission.mode is "${mode}", but nobody is on its list: the relay would serve nobody; fill the list, or choose mode "open"`)
  return { mode, callers, lists: complete }
}

function readList (own: ReadonlySet<string>, file: string | undefined, where: string | undefined): ReadonlySet<string> {
  if (file === undefined) return own
  let text: string
  try {
    const { size } = statSync(file)
    if (size > LIMITS.relayAdmissionListBytes) throw new CarrierError('ERR_CONFIG', `it has ${size} bytes, at most ${LIMITS.relayAdmissionListBytes} are read`)
    text = readFileSync(file, 'utf8')
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `${placePrefix(where)}the admission list ${file} cannot be read: ${errorMessage(err)}`, { cause: err })
  }
  return new Set([...own, ...parseAdmissionList(text, file)])
}
