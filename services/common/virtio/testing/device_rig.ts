/** A virtio device over an ArrayBuffer with one registered dataspace, and what a driver does to it. */
import { Memory } from '#common/memory';
import * as c from '../config_page.ts';
import { type DeviceHooks, VirtioDevice } from '../device.ts';
import { F_INDIRECT_DESC, F_VERSION_1, featureSet, NET_F_MAC } from '../features.ts';
import { layoutQueue, type QueueLayout } from '../layout.ts';

/** Address at which the driver registers its dataspace. */
export const BASE = 2 * 2 ** 20;
/** Where the config page and the driver's dataspace lie in the memory. */
export const PAGE = 0x1000;
export const RAM = 0x4000;
export const RAM_BYTES = 64 * 1024;
/** Byte offset of the queue entries in the page. */
export const QUEUES = 0x110;

export interface RigOptions {
  readonly dsMax?: number;
  readonly queues?: number[];
  /** Called when the device gives a dataspace up. */
  readonly close?: () => void;
}

export function deviceRig(hooks: DeviceHooks, options: RigOptions = {}) {
  const memory = new Memory(new ArrayBuffer(RAM + RAM_BYTES));
  const { close = () => {} } = options;
  const device = new VirtioDevice(
    memory,
    PAGE,
    {
      deviceId: c.DEVICE_ID_NET,
      features: featureSet(NET_F_MAC, F_INDIRECT_DESC),
      queues: options.queues ?? [256, 256],
      config: Uint8Array.of(2, 0, 0, 0, 0, 1, 0, 0, 0, 0),
      dsMax: options.dsMax ?? 2,
      name: 'port1',
    },
    hooks,
  );
  const { page } = device;
  const register = (base = BASE, offset = 0, size = RAM_BYTES, writable = true, dsSize = RAM_BYTES) =>
    device.registerDs({ size: dsSize, writable, map: () => ({ offset: RAM, close }) }, base, offset, size);
  const configure = (index: number, layout: QueueLayout, ready = true) => {
    const entry = page.queue(QUEUES, index);
    entry.layout = layout;
    entry.ready = ready;
    device.configQueue(index);
  };
  const accept = (...bits: number[]) => page.writeFeatures(c.CONFIG.DRIVER_FEATURES_MAP, featureSet(...bits));
  /** Everything the stock client does. */
  const bringUp = () => {
    device.setStatus(0);
    device.setStatus(1);
    device.setStatus(3);
    register();
    configure(0, layoutQueue(256, BASE));
    configure(1, layoutQueue(256, BASE + 0x2000));
    accept(NET_F_MAC, F_VERSION_1);
    device.setStatus(0x0b);
    device.setStatus(0x0f);
  };
  return { memory, device, page, register, configure, accept, bringUp };
}
