/** Every kind of router behaves as its name says. */
import { describeLab } from './lab-scenario.ts'
import { NAT_FLAVOURS } from './nat-flavours.ts'
import type { NatFlavour } from './nat-flavours.ts'

describeLab({ flavours: Object.keys(NAT_FLAVOURS) as NatFlavour[] })
