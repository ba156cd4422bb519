/**
 * The config page of an L4virtio device (F4.2): 4096 bytes that device and driver share, little-endian.
 *
 * The device writes the header, `status`, `num_max` and the offered features; the driver writes its feature
 * map and, while a queue is not ready, the queue's entry. Both may write every byte, so the device
 * keeps its own copy of whatever it relies on (`device.ts`), and so does the driver.
 */
import type { Memory } from '#common/memory';
import type { Features } from './features.ts';
import type { QueueLayout } from './layout.ts';

export const CONFIG_PAGE_SIZE = 4096;
export const CONFIG_MAGIC = 0x74726976; // "virt"
export const CONFIG_VERSION = 2;
export const L4_VENDOR = 0x44;
export const DEVICE_ID_NET = 1;

/** Byte offsets of the 32-bit fields, unless marked otherwise. */
export const CONFIG = {
  MAGIC: 0x00,
  VERSION: 0x04,
  DEVICE_ID: 0x08,
  VENDOR: 0x0c,
  /** Windows of virtio-mmio, not used here: the maps are. */
  DEV_FEATURES: 0x10,
  DEV_FEATURES_SEL: 0x14,
  DRIVER_FEATURES: 0x20,
  DRIVER_FEATURES_SEL: 0x24,
  NUM_QUEUES: 0x28,
  /** Byte offset of the array of queue entries in the page. */
  QUEUES_OFFSET: 0x2c,
  QUEUE_SEL: 0x30,
  QUEUE_NUM_MAX: 0x34,
  QUEUE_NUM: 0x38,
  QUEUE_READY: 0x44,
  QUEUE_NOTIFY: 0x50,
  /** The device sets bits with Atomics.or, the driver takes them with Atomics.exchange. */
  IRQ_STATUS: 0x60,
  IRQ_ACK: 0x64,
  STATUS: 0x70,
  CFG_DRIVER_NOTIFY_INDEX: 0x74,
  CFG_DEVICE_NOTIFY_INDEX: 0x78,
  CMD: 0x7c,
  QUEUE_DESC: 0x80, // u64
  QUEUE_AVAIL: 0x90, // u64
  QUEUE_USED: 0xa0, // u64
  SHM_SEL: 0xac,
  SHM_LEN: 0xb0, // u64
  SHM_BASE: 0xb8, // u64
  DEV_FEATURES_MAP: 0xc0, // u32[6]
  DRIVER_FEATURES_MAP: 0xe0, // u32[6]
  GENERATION: 0xfc,
  /** Device-specific configuration. */
  DEVICE_CONFIG: 0x100,
} as const;

/** 32-bit words of a feature map. */
const FEATURE_WORDS = 6;

/** An entry of the queue array; byte offsets, sizes at the side. */
export const QUEUE_ENTRY_SIZE = 40;
export const QUEUE_ENTRY = {
  NUM_MAX: 0, // u16, the device's
  NUM: 2, // u16
  READY: 4, // u16
  DRIVER_NOTIFY_INDEX: 6, // u16
  DESC: 8, // u64
  AVAIL: 16, // u64
  USED: 24, // u64
  DEVICE_NOTIFY_INDEX: 32, // u16
} as const;

/** Device config of a network device: mac[6], status u16, max_virtqueue_pairs u16 (F3.7). */
export const NET_CONFIG_SIZE = 10;

/** Device status [VIRTIO 1.2 §2.1]. */
export const STATUS_ACKNOWLEDGE = 1;
export const STATUS_DRIVER = 2;
export const STATUS_DRIVER_OK = 4;
export const STATUS_FEATURES_OK = 8;
export const STATUS_NEEDS_RESET = 0x40;
export const STATUS_FAILED = 0x80;
/** Either of these: nothing works until a reset. */
export const STATUS_FAIL_BITS = STATUS_NEEDS_RESET | STATUS_FAILED;
/** All four steps done. */
export const STATUS_RUNNING = 0x0f;

export const IRQ_VRING = 1;
export const IRQ_CONFIG = 2;

/** Offset of the queue array: behind `configBytes` of device config, 16-aligned. */
export function queuesOffset(configBytes: number): number {
  return CONFIG.DEVICE_CONFIG + Math.ceil(configBytes / 16) * 16;
}

/** Accessors for the page at byte `at` (4-aligned) of a memory. Nothing is checked here. */
export class ConfigPage {
  readonly memory: Memory;
  readonly at: number;

  constructor(memory: Memory, at: number) {
    this.memory = memory;
    this.at = at;
  }

  /** A 32-bit field of `CONFIG`. */
  read(field: number): number {
    return this.memory.u32[(this.at + field) >>> 2] as number;
  }

  write(field: number, value: number): void {
    this.memory.u32[(this.at + field) >>> 2] = value;
  }

  readFeatures(map: typeof CONFIG.DEV_FEATURES_MAP | typeof CONFIG.DRIVER_FEATURES_MAP): Features {
    return { lo: this.read(map), hi: this.read(map + 4) };
  }

  /** Are there features of bits that a set has no room for, 64 to 191? */
  hasFurtherFeatures(map: typeof CONFIG.DRIVER_FEATURES_MAP): boolean {
    let bits = 0;
    for (let word = 2; word < FEATURE_WORDS; word++) bits |= this.read(map + 4 * word);
    return bits !== 0;
  }

  writeFeatures(
    map: typeof CONFIG.DEV_FEATURES_MAP | typeof CONFIG.DRIVER_FEATURES_MAP,
    set: Features,
  ): void {
    this.write(map, set.lo);
    this.write(map + 4, set.hi);
    for (let word = 2; word < FEATURE_WORDS; word++) this.write(map + 4 * word, 0);
  }

  /** Tells the driver why it is interrupted. */
  raiseIrq(bits: number): void {
    Atomics.or(this.memory.u32, (this.at + CONFIG.IRQ_STATUS) >>> 2, bits);
  }

  /** Takes the reasons that have come up since the last call. */
  takeIrq(): number {
    return Atomics.exchange(this.memory.u32, (this.at + CONFIG.IRQ_STATUS) >>> 2, 0);
  }

  /** A copy of `bytes` bytes of device config. */
  deviceConfig(bytes: number): Uint8Array {
    const from = this.at + CONFIG.DEVICE_CONFIG;
    return this.memory.u8.slice(from, from + bytes);
  }

  writeDeviceConfig(config: Uint8Array): void {
    this.memory.u8.set(config, this.at + CONFIG.DEVICE_CONFIG);
  }

  /** Entry `index` of the array at `offset` in the page. */
  queue(offset: number, index: number): QueueEntry {
    return new QueueEntry(this.memory, this.at + offset + index * QUEUE_ENTRY_SIZE);
  }
}

/** One entry of the queue array. Addresses beyond 2^53 read inexactly, but never as a smaller number. */
export class QueueEntry {
  readonly #view: DataView;
  readonly #at: number;

  constructor(memory: Memory, at: number) {
    this.#view = memory.view;
    this.#at = at;
  }

  get numMax(): number {
    return this.#u16(QUEUE_ENTRY.NUM_MAX);
  }
  get ready(): boolean {
    return this.#u16(QUEUE_ENTRY.READY) !== 0;
  }
  set ready(value: boolean) {
    this.#view.setUint16(this.#at + QUEUE_ENTRY.READY, value ? 1 : 0, true);
  }

  /** Size and device addresses of the three areas, each read once. */
  get layout(): QueueLayout {
    return {
      size: this.#u16(QUEUE_ENTRY.NUM),
      desc: this.#address(QUEUE_ENTRY.DESC),
      avail: this.#address(QUEUE_ENTRY.AVAIL),
      used: this.#address(QUEUE_ENTRY.USED),
    };
  }
  set layout(layout: QueueLayout) {
    this.#view.setUint16(this.#at + QUEUE_ENTRY.NUM, layout.size, true);
    this.#setAddress(QUEUE_ENTRY.DESC, layout.desc);
    this.#setAddress(QUEUE_ENTRY.AVAIL, layout.avail);
    this.#setAddress(QUEUE_ENTRY.USED, layout.used);
  }

  /** What a device makes of the entry at reset. */
  reset(numMax: number): void {
    for (let i = 0; i < QUEUE_ENTRY_SIZE; i++) this.#view.setUint8(this.#at + i, 0);
    this.#view.setUint16(this.#at + QUEUE_ENTRY.NUM_MAX, numMax, true);
  }

  #u16(field: number): number {
    return this.#view.getUint16(this.#at + field, true);
  }

  #address(field: number): number {
    const at = this.#at + field;
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  #setAddress(field: number, address: number): void {
    const at = this.#at + field;
    this.#view.setUint32(at, address >>> 0, true);
    this.#view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
  }
}
