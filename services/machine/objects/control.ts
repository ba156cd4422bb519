/** Object `control`: what the launcher shows about the machine. */
import { L4Error } from '#common/ipc/errors';
import { type Binding, bind } from '#common/ipc/service';
import { formatMac } from '#common/wire/ethernet';
import { formatIpv4 } from '#common/wire/ipv4';
import { MachineControl } from '../../../proto/gen/services.js';
import type { Machine } from '../machine.ts';
import { type NicOptions, wireName } from '../options.ts';
import type { WireLease } from '../wire.ts';

/** The services of the gate `control`; `nics` are the options that the machine's NICs were made of, in order. */
export function controlObject(machine: Machine, nics: readonly NicOptions[]): Binding[] {
  return [
    bind(MachineControl, {
      status: () => ({
        nics: machine.nics.map(({ model, dma, wire }, n) => ({
          model: model.name,
          mac: formatMac(nics[n]?.mac ?? new Uint8Array(6)),
          wire: wireName(nics[n]?.wire ?? { kind: '', target: '' }),
          ...model.counters,
          dmaFaults: dma.faults,
          leases: (wire.leases?.() ?? []).map(leaseView),
        })),
      }),
      cable: ({ nic, plugged }) => {
        const found = machine.nics[nic];
        if (!found) {
          throw new L4Error(
            'ENOENT',
            `Cannot plug the cable of NIC ${nic} as the machine has ${machine.nics.length} NICs, counted from 0`,
          );
        }
        found.plug(plugged);
        return {};
      },
    }),
  ];
}

function leaseView({ client, address }: WireLease): { mac: string; address: string } {
  const bytes = Uint8Array.from({ length: 6 }, (_, n) => Math.floor(client / 2 ** (8 * (5 - n))) % 256);
  return { mac: formatMac(bytes), address: formatIpv4(address) };
}
