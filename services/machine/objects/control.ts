/** Object `control`: what the launcher shows about the machine. */
import { type Binding, bind } from '#common/ipc/service';
import { MachineControl } from '../../../proto/gen/services.js';
import type { Machine } from '../machine.ts';
import { formatMac, type NicOptions, wireName } from '../options.ts';

/** The services of the gate `control`; `nics` are the options that the machine's NICs were made of, in order. */
export function controlObject(machine: Machine, nics: readonly NicOptions[]): Binding[] {
  return [
    bind(MachineControl, {
      status: () => ({
        nics: machine.nics.map(({ model, dma }, n) => ({
          model: model.name,
          mac: formatMac(nics[n]?.mac ?? new Uint8Array(6)),
          wire: wireName(nics[n]?.wire ?? { kind: '', target: '' }),
          ...model.counters,
          dmaFaults: dma.faults,
        })),
      }),
    }),
  ];
}
