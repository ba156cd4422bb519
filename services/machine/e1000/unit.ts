/** What the NIC's receive and transmit units have to work with. */
import type { NicCounters, NicHost } from '../nic_model.ts';
import type { Interrupts } from './interrupts.ts';
import type { Statistics } from './statistics.ts';

export interface UnitParts {
  readonly host: NicHost;
  /** The NIC's registers, indexed by offset / 4. */
  readonly regs: Uint32Array;
  readonly interrupts: Interrupts;
  readonly statistics: Statistics;
  readonly counters: NicCounters;
  /** Arena offset of private memory to put a frame together in. */
  readonly scratch: number;
}
