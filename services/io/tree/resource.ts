/**
 * Resources of devices: memory and port ranges, interrupts, DMA domains.
 *
 * Numbers are those of `l4vbus_resource_t` (L4Re, libvbus). Inside Io a flag word keeps the flags that a
 * vbus shows in its bits 20..31; configuration files write such words (`Io.Resource.Irq_type_level_high`).
 */

/** Types of resources as a vbus shows them. */
export const RESOURCE = {
  INVALID: 0,
  IRQ: 1,
  MEM: 2,
  PORT: 3,
  BUS: 4,
  GPIO: 5,
  DMA_DOMAIN: 6,
} as const;

export type ResourceType = (typeof RESOURCE)[keyof typeof RESOURCE];

/** Flags of a MEM resource as a vbus shows them. */
export const MEM_R = 0x1;
export const MEM_W = 0x2;
export const MEM_PREFETCHABLE = 0x10;
export const MEM_CACHEABLE = 0x20;

/** Flags of an IRQ resource as a vbus shows them: L4 irq mode bits. */
export const IRQ_LEVEL = 0x2;
export const IRQ_NEGATIVE = 0x4;
export const IRQ_LEVEL_HIGH = 0x3;
export const IRQ_LEVEL_LOW = 0x7;
export const IRQ_RISING = 0x1;
export const IRQ_FALLING = 0x5;
export const IRQ_BOTH_EDGES = 0x9;

/** Lower bits of an internal flag word. */
export const FLAG_DISABLED = 0x100;
export const FLAG_64BIT = 0x10000;

const VBUS_FLAGS_SHIFT = 20;

export interface Resource {
  readonly type: ResourceType;
  /** Internal flag word, unsigned 32 bits. */
  readonly flags: number;
  /** First and last (inclusive) address, port, interrupt or domain number. */
  readonly start: number;
  readonly end: number;
  /** Four ASCII characters, little-endian; see `resourceId`. */
  id: number;
}

/** Makes a resource of flags as a vbus shows them. */
export function resource(
  type: ResourceType,
  id: string,
  start: number,
  end: number,
  vbusFlags: number,
  lowFlags = 0,
): Resource {
  return { type, flags: internalFlags(vbusFlags) + lowFlags, start, end, id: resourceId(id) };
}

/** The internal flag word for flags of a vbus. */
export function internalFlags(vbusFlags: number): number {
  return (vbusFlags << VBUS_FLAGS_SHIFT) >>> 0;
}

/** The flags that a vbus shows for a resource. */
export function vbusFlags(resource: Resource): number {
  return resource.flags >>> VBUS_FLAGS_SHIFT;
}

/** The first four characters of a name as a little-endian number: "BAR0" is 0x30524142. */
export function resourceId(name: string): number {
  let id = 0;
  for (let i = 0; i < Math.min(4, name.length); i++) id |= (name.charCodeAt(i) & 0xff) << (8 * i);
  return id >>> 0;
}

/** The name that `resourceId` packed; padding is left out. */
export function resourceName(id: number): string {
  let name = '';
  for (let shift = 0; shift < 32; shift += 8) {
    const code = (id >>> shift) & 0xff;
    if (code !== 0) name += String.fromCharCode(code);
  }
  return name;
}

const TYPE_NAME: Record<ResourceType, string> = {
  0: 'INVALID',
  1: 'IRQ',
  2: 'MEM',
  3: 'PORT',
  4: 'BUS',
  5: 'GPIO',
  6: 'DMA domain',
};

/** One resource for people: `BAR0 MEM 0xfebc0000-0xfebdffff`, `PIN IRQ 11`. */
export function describeResource(resource: Resource): string {
  const { type, start, end } = resource;
  const hex = type === RESOURCE.MEM || type === RESOURCE.PORT;
  const show = (value: number): string => (hex ? `0x${value.toString(16)}` : String(value));
  const range = start === end ? show(start) : `${show(start)}-${show(end)}`;
  return `${resourceName(resource.id)} ${TYPE_NAME[type]} ${range}`;
}
