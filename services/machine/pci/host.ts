/**
 * The machine's one PCI bus: which function is where, how its interrupt pins are wired, which of its
 * BARs a physical address belongs to.
 */
import { L4Error } from '#common/ipc/errors';
import { formatRequester, requesterId } from '#common/nic/pci';
import type { ConfigSpace } from './config_space.ts';

/** Bus address of a function; the machine has segment 0 and bus 0 only. */
export interface PciAddress {
  readonly segment?: number | null;
  readonly bus?: number | null;
  readonly device?: number | null;
  readonly function?: number | null;
}

export interface PciFunction {
  /** bus << 8 | device << 3 | function */
  readonly requester: number;
  readonly config: ConfigSpace;
}

/** Interrupt number of the first of the four lines that all slots share, as on a PC with an IOAPIC. */
export const FIRST_IRQ = 16;
export const NR_IRQS = 24;

/** Line of a slot's pin (0 = INTA): each slot is turned by one. [PCI 3.0 §2.2.6, implementation note] */
export function routeIrq(device: number, pin: number): number {
  return FIRST_IRQ + ((device + pin) & 3);
}

export class PciHost<F extends PciFunction = PciFunction> {
  readonly #functions = new Map<number, F>();

  get functions(): Iterable<F> {
    return this.#functions.values();
  }

  add(fn: F): void {
    this.#functions.set(fn.requester, fn);
  }

  /** The function with that requester id. */
  find(requester: number): F | undefined {
    return this.#functions.get(requester);
  }

  /** All ones when no function is there. Throws EINVAL for an offset or width that no bus cycle has. */
  cfgRead(address: PciAddress | null | undefined, offset: number, width: number): number {
    checkAccess('read', offset, width);
    const value = this.#at(address)?.config.read(offset, width);
    return value ?? (width === 32 ? 0xffff_ffff : 2 ** width - 1);
  }

  /** Goes nowhere when no function is there. Throws EINVAL as `cfgRead`. */
  cfgWrite(address: PciAddress | null | undefined, offset: number, width: number, value: number): void {
    checkAccess('write', offset, width);
    this.#at(address)?.config.write(offset, width, value);
  }

  /** Interrupt number of a pin, 0 = INTA. Throws ENOENT when the function or the pin does not exist. */
  route(address: PciAddress | null | undefined, pin: number): number {
    const fn = this.#at(address);
    if (!fn) {
      throw new L4Error('ENOENT', `Cannot route interrupt as there is no PCI function at ${show(address)}`);
    }
    if (fn.config.interruptPin !== pin + 1) {
      throw new L4Error(
        'ENOENT',
        `Cannot route interrupt pin ${pin} of ${show(address)} as the function uses ${pinName(fn.config.interruptPin)}`,
      );
    }
    return routeIrq((fn.requester >>> 3) & 0x1f, pin);
  }

  /** The function and BAR whose memory window contains `size` bytes at `address`. */
  findMemory(address: number, size: number): { fn: F; bar: number; offset: number } | undefined {
    for (const fn of this.#functions.values()) {
      for (let bar = 0; bar < fn.config.bars.length; bar++) {
        const window = fn.config.bars[bar];
        const offset = address - fn.config.barAddress(bar);
        if (window?.kind !== 'memory' || offset < 0 || offset + size > window.size) continue;
        return { fn, bar, offset };
      }
    }
    return undefined;
  }

  #at(address: PciAddress | null | undefined): F | undefined {
    const { segment, bus, device, function: fn } = address ?? {};
    if (segment || bus || (device ?? 0) > 31 || (fn ?? 0) > 7) return undefined;
    return this.#functions.get(requesterId(0, device ?? 0, fn ?? 0));
  }
}

function checkAccess(what: string, offset: number, width: number): void {
  const valid = width === 8 || width === 16 || width === 32;
  if (valid && offset >= 0 && offset < 4096 && offset % (width / 8) === 0) return;
  throw new L4Error(
    'EINVAL',
    `Cannot ${what} PCI configuration space as the width must be 8, 16 or 32 bits and the offset 0..4095 aligned to it: current values are ${width} and 0x${offset.toString(16)}`,
  );
}

function show(address: PciAddress | null | undefined): string {
  const { bus, device, function: fn } = address ?? {};
  return formatRequester(requesterId(bus ?? 0, device ?? 0, fn ?? 0));
}

function pinName(pin: number): string {
  return pin === 0 ? 'none' : `pin ${pin - 1} (INT${String.fromCharCode(64 + pin)})`;
}
