/** A VXLAN port in a world of hostile clients: what they send to it leaves in datagrams, which are looked at. */
import { SLOT_BYTES } from '#common/udp/socket';
import { SCRATCH_BYTES } from '#common/vnet/virtio_port';
import { parseTunnelArguments } from '../../services/l4vio_switch/factory_args.ts';
import type { Forwarder } from '../../services/l4vio_switch/forward.ts';
import { REMOTES_BYTES } from '../../services/l4vio_switch/vxlan/remotes.ts';
import type { VxlanSpec } from '../../services/l4vio_switch/vxlan/spec.ts';
import { Vtep } from '../../services/l4vio_switch/vxlan/vtep.ts';
import { VxlanPort } from '../../services/l4vio_switch/vxlan/vxlan_port.ts';
import { DATAGRAMS_BYTES, FakeDatagrams, type Sent } from './fake_datagrams.ts';
import type { HookedMemory } from './hooked_memory.ts';

const SOCKETS = 5;
const HEADER = 8;
const REMOTES = 3;
/** Bytes of memory. */
export const TARGET_BYTES = SCRATCH_BYTES + REMOTES_BYTES + SOCKETS * DATAGRAMS_BYTES;

export class TunnelTarget {
  /** Datagrams that have left. */
  sent = 0;
  readonly #forbidden: () => readonly Buffer[];

  /** Connects port `number`, an access port of VLAN 8. `forbidden`: what no datagram may have. */
  constructor(
    memory: HookedMemory,
    at: number,
    forwarder: Forwarder,
    number: number,
    forbidden: () => readonly Buffer[],
  ) {
    this.#forbidden = forbidden;
    const remotes = Array.from({ length: REMOTES }, (_, n) => `remote=192.0.2.${n + 1}`);
    const { vxlan, ...spec } = parseTunnelArguments(['vni=1', 'vlan=access=8', ...remotes]);
    let sockets = at + SCRATCH_BYTES + REMOTES_BYTES;
    const open = () => {
      sockets += DATAGRAMS_BYTES;
      return new FakeDatagrams(memory, sockets - DATAGRAMS_BYTES, (sent) => this.#judge(sent));
    };
    const vtep = new Vtep({ memory, open, activate: () => {}, clock: () => 0 }, { family: 4, port: 4789 });
    const port = new VxlanPort({
      number,
      spec: vxlan as VxlanSpec,
      trunk: false,
      memory,
      scratch: at,
      remotesAt: at + SCRATCH_BYTES,
      scope: 0,
      fabric: forwarder,
      vtep,
      dropped: (reason) => forwarder.counters.dropped(number, reason),
    });
    forwarder.connect(number, port, spec);
    port.open();
  }

  #judge({ bytes, to }: Sent): void {
    this.sent += 1;
    const fail = (what: string) => {
      throw new Error(`a datagram of ${bytes.length} bytes to ${to} ${what}`);
    };
    if (bytes.readUInt32BE(0) !== 0x0800_0000 || bytes.readUInt32BE(4) !== 0x100) fail('has a bad header');
    if (bytes.length < HEADER + 14 || bytes.length > SLOT_BYTES) fail('has an impossible length');
    if (bytes.readUInt16BE(HEADER + 12) === 0x8100) fail('has a tag');
    for (const word of this.#forbidden())
      if (bytes.includes(word)) fail(`has bytes that must not be seen: ${word.toString('hex')}`);
  }
}
