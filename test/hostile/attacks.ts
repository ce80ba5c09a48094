/** The attacks of the hostile stage by name, and what each is made of. */

/** One kind of attack. */
export type AttackPart = 'idle' | 'drip' | 'malformed' | 'connects' | 'splices' | 'muxers' | 'pusher' | 'reservations' | 'unpaired'

/** Parts that come without a key; their control run goes against a plain TCP sink, that of the others against a second relay. */
export const RAW_PARTS: readonly AttackPart[] = ['idle', 'drip', 'malformed', 'connects', 'splices']

/** An attack of the table. */
export interface Attack { name: string, parts: readonly AttackPart[] }

/** Each alone, and all together. */
export const ATTACKS: readonly Attack[] = [
  { name: '400 idle sockets from 50 addresses', parts: ['idle'] },
  { name: '200 byte-drip handshakes', parts: ['drip'] },
  { name: '8 kinds of malformed streams × 30 sockets', parts: ['malformed'] },
  { name: '11 evil muxers after their handshake', parts: ['muxers'] },
  { name: '5,000 connects in 5 s', parts: ['connects'] },
  { name: 'a circuit pusher at a reader that never reads', parts: ['pusher'] },
  { name: 'reservation requests from fresh keys', parts: ['reservations'] },
  { name: 'splice port: no, wrong, slow tickets, one leg', parts: ['splices', 'unpaired'] },
  { name: 'all of these together', parts: ['idle', 'drip', 'malformed', 'muxers', 'connects', 'pusher', 'reservations', 'splices', 'unpaired'] }
]
