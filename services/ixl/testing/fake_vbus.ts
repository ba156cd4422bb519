/** A vbus, its ICU, memory factory and DMA space behind a fake `ipc.client`, for tests of the bring-up. */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import { l4lab } from '../../../proto/gen/messages.js';
import type { VbusClient } from '../bringup/vbus.ts';
import type { IxlEnv } from '../env.ts';

export interface FakeDevice {
  readonly name: string;
  readonly hid?: string;
  /** Configuration space by dword offset; only for a PCI function. */
  readonly config?: Map<number, number>;
  readonly resources?: { type: number; start: number; end?: number }[];
}

const PCIDEV = 1 << 3;
export const BAR0_SIZE = 0x20000;

/** An 82540EM as Io shows it. */
export function fakeNic(
  overrides: { id?: number; classCode?: number; bar0?: number; dma?: boolean } = {},
): FakeDevice {
  const { id = 0x100e_8086, classCode = 0x0200, bar0 = 0xfebc_0000, dma = true } = overrides;
  return {
    name: 'NIC',
    config: new Map([
      [0x00, id],
      [0x04, 0],
      [0x08, (classCode << 16) >>> 0],
      [0x10, bar0],
    ]),
    resources: [
      { type: l4lab.VbusResource.Type.MEM, start: bar0, end: bar0 + BAR0_SIZE - 1 },
      ...(dma ? [{ type: l4lab.VbusResource.Type.DMA_DOMAIN, start: 42 }] : []),
    ],
  };
}

export const ICU: FakeDevice = { name: 'L4ICU', hid: 'L40009' };

export class FakeVbus {
  /** Names of calls with their arguments, in order. */
  readonly calls: string[] = [];
  nrMsis = 25;
  /** Name of the interrupt object that was bound last. */
  bound = '';
  /** Resolves when the test says that the machine has ended. */
  readonly machineGone: Promise<void>;
  endMachine: () => void = () => {};
  readonly #devices: readonly FakeDevice[];

  constructor(devices: readonly FakeDevice[]) {
    this.#devices = devices;
    this.machineGone = new Promise((resolve) => {
      this.endMachine = resolve;
    });
  }

  /** The services of everything behind the capability, by the service's name. */
  readonly ipc = {
    client: (service: { readonly name: string }): unknown => {
      const table = this.#services[service.name];
      if (!table) throw new Error(`no fake for ${service.name}`);
      return table;
    },
    whenGone: () => this.machineGone,
  } as unknown as IxlEnv['ipc'];

  get client(): VbusClient {
    return this.#services['l4lab.Vbus'] as VbusClient;
  }

  /** Set: what assigning the DMA domain, or asking for an MSI's address, fails with. */
  assignRefusal: L4Error | undefined;
  msiRefusal: L4Error | undefined;

  /** What `Dataspace.map` answers; unset: the call fails like a bus without such a resource. */
  mapReply: (() => object) | undefined;

  readonly #services: { readonly [name: string]: object } = {
    'l4lab.Vbus': {
      getNext: async ({ current }: { current: number }) => this.#device(current + 1 || 1, 'ENODEV'),
      getByHid: async ({ hid }: { hid: string }) =>
        this.#device(this.#devices.findIndex((device) => device.hid === hid) + 1, 'ENOENT'),
      getHid: async ({ handle }: { handle: number }) => ({ value: this.#devices[handle - 1]?.hid ?? '' }),
      getResource: async ({ handle, index }: { handle: number; index: number }) =>
        this.#devices[handle - 1]?.resources?.[index],
      pciCfgRead: async ({ handle, offset, width }: { handle: number; offset: number; width: number }) => {
        const word = this.#devices[handle - 1]?.config?.get(offset & ~3) ?? 0;
        return {
          value: width === 32 ? word : (word >>> (8 * (offset & 3))) & (width === 16 ? 0xffff : 0xff),
        };
      },
      pciCfgWrite: async (request: { handle: number; offset: number; value: number }) => this.#write(request),
      pciIrqEnable: async () => ({ irq: 11, trigger: 0, polarity: 1 }),
      vicuGetCap: async () => ({ capability: CAP }),
      assignDmaDomain: async ({ domain, flags }: { domain: number; flags: number }) => {
        this.calls.push(`assignDmaDomain ${domain} ${flags}`);
        if (this.assignRefusal) throw this.assignRefusal;
      },
    },
    'l4lab.Dataspace': {
      map: async ({ offset, size }: { offset: number; size: number }) => {
        this.calls.push(`map 0x${offset.toString(16)} 0x${size.toString(16)}`);
        if (!this.mapReply) throw new L4Error('ERANGE', 'Cannot map as there is no such resource');
        return this.mapReply();
      },
    },
    'l4lab.Factory': {
      create: async ({ type }: { type: number }) => {
        this.calls.push(`create ${type}`);
        return { object: CAP };
      },
    },
    'l4lab.Meta': {
      release: async () => {
        this.calls.push('release');
      },
    },
    'l4lab.DmaSpace': { map: async () => ({ address: 2 ** 21 * (1 + 8 * this.#maps++) }) },
    'l4lab.Icu': {
      info: async () => ({ features: 0x8000_0000, nrIrqs: 12, nrMsis: this.nrMsis }),
      unbind: async ({ irq }: { irq: number }) => {
        this.calls.push(`unbind ${irq}`);
      },
      bind: async ({ irq, object }: { irq: number; object: { name: string } }) => {
        this.calls.push(`bind ${irq}`);
        this.bound = object.name;
        return { unmaskViaIcu: 0 };
      },
      msiInfo: async () => {
        if (this.msiRefusal) throw this.msiRefusal;
        return { address: 0x1_fee0_0000, data: 0x41 };
      },
    },
  };
  #maps = 0;

  #device(handle: number, error: 'ENODEV' | 'ENOENT') {
    const device = this.#devices[handle - 1];
    if (!device) throw new L4Error(error, 'Cannot find device as there is none');
    return {
      handle,
      type: device.config ? PCIDEV : 0,
      name: device.name,
      numResources: device.resources?.length ?? 0,
    };
  }

  #write({ handle, offset, value }: { handle: number; offset: number; value: number }): void {
    this.calls.push(`write 0x${offset.toString(16)} 0x${value.toString(16)}`);
    const config = this.#devices[handle - 1]?.config;
    const bar = offset === 0x10 ? value & ~(BAR0_SIZE - 1) : value;
    config?.set(offset, bar >>> 0);
  }
}

export const CAP: Capability = { gate: '0'.repeat(32), object: 1, masks: [], proof: new Uint8Array(16) };
