/** A machine with NICs over an ArrayBuffer and wires that a test holds the other end of. */
import { Memory } from '#common/memory';
import { REG } from '#common/nic/e1000';
import type { RegisterFile } from '#common/shm/mmio';
import { Machine } from '../machine.ts';
import type { NicFunction } from '../nic_function.ts';
import type { Wire, WireEnd } from '../wire.ts';

/** A wire whose far end is the test. */
export class FakeWire implements Wire {
  readonly kind = 'fake';
  linkUp = true;
  end: WireEnd | undefined;
  closed = false;
  readonly sent: number[] = [];

  connect(end: WireEnd): void {
    this.end = end;
  }

  transmit(_offset: number, length: number): void {
    this.sent.push(length);
  }

  poll(): boolean {
    return false;
  }

  arm(): boolean {
    return false;
  }

  close(): void {
    this.closed = true;
  }
}

export interface NicMachine {
  readonly machine: Machine;
  readonly pci: Machine['pci'];
  /** The NIC in slot 3 and its wire. */
  readonly nic: NicFunction;
  readonly wire: FakeWire;
  /** The NIC's registers as a driver that mapped them sees them. */
  readonly registers: RegisterFile;
  /** Changes of interrupt lines. */
  readonly irqs: [number, boolean][];
  readonly logs: string[];
}

export function nicMachine(nics = 1): NicMachine {
  const memory = new Memory(new ArrayBuffer(0x100000));
  let next = 0;
  const irqs: [number, boolean][] = [];
  const logs: string[] = [];
  const machine = new Machine({
    memory,
    mapPrivate: (size) => {
      next += size;
      return next - size;
    },
    now: () => 0,
    log: (text) => logs.push(text),
    wake: () => {},
    onIrq: (irq, asserted) => irqs.push([irq, asserted]),
  });
  const wires = Array.from({ length: nics }, (_, n) => {
    const wire = new FakeWire();
    machine.addNic({ model: 'e1000', mac: Uint8Array.of(2, 0, 0, 0, 0, n) }, wire);
    return wire;
  });
  const [nic] = machine.nics;
  const [wire] = wires;
  if (!nic || !wire) throw new Error('Cannot test as the machine has no NIC');
  // The cable was plugged in at the start: that is a link change that no test asks about.
  nic.model.read32(REG.ICR.offset);
  return { machine, pci: machine.pci, nic, wire, registers: nic.registers, irqs, logs };
}
