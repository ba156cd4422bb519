/**
 * What configuration files do to the device trees: the operations behind lua/api.ts.
 *
 * Lua knows devices and resources by number (their index here). Every operation gets the position of the
 * line of the script that asked; it either returns a value for Lua or throws, which becomes a Lua error.
 */
import type { Log } from '../log.ts';
import { explainPciId, PCI_CLASS_ALIASES } from '../pci/match.ts';
import type { Device } from '../tree/device.ts';
import { HW_TYPES, HwDevice } from '../tree/hw.ts';
import {
  describeResource,
  IRQ_BOTH_EDGES,
  IRQ_FALLING,
  IRQ_LEVEL_HIGH,
  IRQ_LEVEL_LOW,
  IRQ_RISING,
  internalFlags,
  MEM_CACHEABLE,
  MEM_PREFETCHABLE,
  MEM_R,
  MEM_W,
  RESOURCE,
  type Resource,
  resourceId,
} from '../tree/resource.ts';
import { PciContainer, ProxyDevice, SystemBus, VI_TYPES, VirtualDevice } from '../tree/vi.ts';

/** A value that crosses to and from Lua. */
export type LuaValue = string | number | boolean | undefined;

/** Mistakes in a script: the message becomes a Lua error with file and line. */
class ScriptError extends Error {
  override readonly name = 'ScriptError';
}

/** `Io.Resource.*` */
const CONSTANTS: Readonly<Record<string, number>> = {
  Mem_type_r: internalFlags(MEM_R),
  Mem_type_w: internalFlags(MEM_W),
  Mem_type_rw: internalFlags(MEM_R | MEM_W),
  Mem_type_prefetchable: internalFlags(MEM_PREFETCHABLE),
  Mem_type_cacheable: internalFlags(MEM_CACHEABLE),
  Irq_type_none: 0,
  Irq_type_level_high: internalFlags(IRQ_LEVEL_HIGH),
  Irq_type_level_low: internalFlags(IRQ_LEVEL_LOW),
  Irq_type_raising_edge: internalFlags(IRQ_RISING),
  Irq_type_falling_edge: internalFlags(IRQ_FALLING),
  Irq_type_both_edges: internalFlags(IRQ_BOTH_EDGES),
};

const RESOURCE_KINDS = { io: RESOURCE.PORT, mmio: RESOURCE.MEM, irq: RESOURCE.IRQ } as const;

/** The virtual busses of all files, in the order of publication. */
export type Busses = ReadonlyMap<string, SystemBus>;

/** Returns a LuaValue; what returns nothing gives nil. */
type Operation = (where: string, ...args: LuaValue[]) => unknown;

export class Configuration {
  readonly #root: HwDevice;
  readonly #log: Log;
  readonly #devices: Device[] = [];
  readonly #ids = new Map<Device, number>();
  readonly #resources: Resource[] = [];
  readonly #busses = new Map<string, SystemBus>();
  readonly #print: (line: string) => void;

  /** @param print takes what the script prints, without the line break */
  constructor(root: HwDevice, log: Log, print: (line: string) => void) {
    this.#root = root;
    this.#log = log;
    this.#print = print;
  }

  get busses(): Busses {
    return this.#busses;
  }

  /** Performs one operation for Lua. Throws for unknown operations and for mistakes of the script. */
  call(operation: string, where: string, args: readonly LuaValue[]): LuaValue {
    const perform = this.#operations[operation];
    if (perform === undefined) throw new ScriptError(`unknown operation ${operation}`);
    return (perform(where, ...args) ?? undefined) as LuaValue;
  }

  readonly #operations: Readonly<Record<string, Operation>> = {
    print: (_where, text) => this.#print(String(text)),
    warn: (where, text) => this.#log.always(withPosition(String(text), where)),
    aliases: () => pairs(PCI_CLASS_ALIASES),
    constants: () => pairs(CONSTANTS),

    root: () => this.#idOf(this.#root),
    describe: (_where, id) => this.#device(id).describe(),
    name: (_where, id) => this.#device(id).name,
    set_name: (_where, id, name) => {
      this.#device(id).name = String(name);
    },
    hid: (_where, id) => this.#device(id).hid,
    adr: (_where, id) => this.#device(id).adr,
    depth: (_where, id) => this.#device(id).depth,
    parent: (_where, id) => this.#idOf(this.#device(id).parent),
    children: (_where, id) => this.#idOf(this.#device(id).children[0]),
    next: (_where, id) => this.#idOf(this.#device(id).nextSibling),
    find_by_name: (_where, id, name) => this.#idOf(this.#device(id).findByName(String(name))),
    walk: (_where, id, depth) => this.#list([...this.#device(id).walk(Number(depth))]),
    match_cid: (_where, id, cid) => this.#device(id).matches(String(cid)),
    match: (_where, id, ...cids) =>
      this.#list(
        [...this.#device(id).walk()].filter((device) => cids.some((cid) => device.matches(String(cid)))),
      ),
    explain: (_where, ...cids) => {
      const odd = cids.map((cid) => explainPciId(String(cid))).find((text) => text !== undefined);
      return odd === undefined ? '' : ` (${odd})`;
    },
    dump: (_where, id) => {
      for (const line of dumpLines(this.#device(id))) this.#print(line);
    },

    nresources: (_where, id) => this.#device(id).resources.length,
    resource: (_where, id, index) => this.#resourceIdOf(this.#device(id).resources[Number(index)]),
    resource_field: (_where, id, field) =>
      this.#resource(id)[field as 'id' | 'type' | 'flags' | 'start' | 'end'],
    describe_resource: (_where, id) => describeResource(this.#resource(id)),
    new_resource: (_where, kind, start, end, flags) => {
      const type = RESOURCE_KINDS[kind as keyof typeof RESOURCE_KINDS];
      return this.#resourceIdOf({
        type,
        flags: Number(flags) >>> 0,
        start: Number(start),
        end: Number(end),
        id: 0,
      });
    },
    add_resource: (_where, id, resource, name) => {
      const added = this.#resource(resource);
      if (typeof name === 'number') added.id = name >>> 0;
      else if (name !== undefined) added.id = resourceId(String(name));
      this.#device(id).addResource(added);
    },

    create_hw: (where, type) => {
      if (!HW_TYPES.some((known) => known === type)) return undefined;
      return this.#create(new HwDevice(String(type), this.#log), where);
    },
    create_vi: (where, type) => {
      const create = VI_TYPES[String(type)];
      if (create !== undefined) return this.#create(create(), where);
      this.#log.warn(withPosition(`WARNING: cannot instantiate device: '${type}'`, where));
      return undefined;
    },
    wrap: (where, id) => this.#wrap(this.#device(id), where),
    add_child: (where, parent, child, name) => this.#addChild(parent, child, name, where),
    add_cid: (_where, id, cid) => {
      this.#device(id).compatible.push(String(cid));
    },
    set_property: (where, id, name, index, value) => {
      const result = this.#device(id).properties.set(String(name), Number(index), value);
      if (result === 'ok') return;
      const text =
        result.reason === 'unknown'
          ? `error: no property '${name}' registered`
          : `error: setting property ${name} failed`;
      this.#log.always(withPosition(`${text}: ${result.detail}`, where));
    },
    found_nothing: (_where, id, search) => {
      const device = this.#device(id);
      this.#pending.set(device, [...(this.#pending.get(device) ?? []), String(search)]);
    },
    add_vbus: (where, name, id) => this.#addVbus(String(name), this.#device(id), where),
  };

  /** Searches that found nothing, by the device whose body they stand in. */
  readonly #pending = new Map<Device, string[]>();

  #create(device: Device, where: string): number {
    device.origin = where;
    return this.#idOf(device) as number;
  }

  #wrap(device: Device, where: string): number {
    if (!(device instanceof HwDevice)) {
      throw new ScriptError(`wrap() takes devices of Io.system_bus(), got: ${device.describe()}`);
    }
    const proxy = new ProxyDevice(device);
    const first = device.claims[0];
    if (first !== undefined && !device.multiVbus) {
      this.#log.always(
        withPosition(
          `WARNING: device '${device.name}' already assigned to another virtual bus.`,
          `${proxy.identity}, first at ${first.origin}, again at ${where}`,
        ),
      );
    }
    device.claims.push(proxy);
    return this.#create(proxy, where);
  }

  #addChild(parentId: LuaValue, childId: LuaValue, name: LuaValue, where: string): undefined {
    const [parent, child] = [this.#device(parentId), this.#device(childId)];
    const label = typeof name === 'string' ? name : child.name;
    if (parent instanceof VirtualDevice !== child instanceof VirtualDevice) {
      const hint =
        child instanceof VirtualDevice
          ? 'virtual devices belong on a vbus'
          : `wrap() it: ${label} = wrap(...)`;
      throw new ScriptError(
        `Cannot add ${child.describe()} to ${parent.describe()} as one is hardware and one is virtual: ${hint}`,
      );
    }
    if (parent instanceof PciContainer && child instanceof VirtualDevice && !child.isPci) {
      this.#log.always(
        withPosition(
          `WARNING: '${label}' (${child.describe()}) is left out: ${parent.describe()} takes PCI devices only`,
          where,
        ),
      );
      return;
    }
    const reason = parent.refuses(child);
    if (reason !== undefined) throw new ScriptError(reason);
    if (typeof name === 'string') child.name = name;
    parent.addChild(child);
    if (child instanceof HwDevice && (parent === this.#root || parent.parent !== undefined)) child.plugin();
  }

  #addVbus(name: string, bus: Device, where: string): void {
    if (!(bus instanceof SystemBus)) {
      this.#log.error(
        withPosition(
          `ERROR: found non system-bus device as root device, ignored: '${name}' is ${bus.describe()}, use Io.Vi.System_bus`,
          where,
        ),
      );
      return;
    }
    const other = this.#busses.get(name);
    if (other !== undefined) {
      throw new ScriptError(
        `Cannot add vbus '${name}' as there is one of that name already, from ${other.origin}`,
      );
    }
    bus.name = name;
    for (const device of bus.walk()) bus.emptySearches.push(...(this.#pending.get(device) ?? []));
    this.#busses.set(name, bus);
  }

  #device(id: LuaValue): Device {
    const device = this.#devices[Number(id) - 1];
    if (device === undefined) throw new ScriptError(`expected device, got: ${id}`);
    return device;
  }

  #resource(id: LuaValue): Resource {
    const resource = this.#resources[Number(id) - 1];
    if (resource === undefined) throw new ScriptError(`expected a resource got: ${id}`);
    return resource;
  }

  #idOf(device: Device | undefined): number | undefined {
    if (device === undefined) return undefined;
    const known = this.#ids.get(device);
    if (known !== undefined) return known;
    const id = this.#devices.push(device);
    this.#ids.set(device, id);
    return id;
  }

  #resourceIdOf(resource: Resource | undefined): number | undefined {
    if (resource === undefined) return undefined;
    const known = this.#resources.indexOf(resource);
    return known >= 0 ? known + 1 : this.#resources.push(resource);
  }

  #list(devices: readonly Device[]): string {
    return devices.map((device) => this.#idOf(device)).join(' ');
  }
}

/** Adds " (rom/ixl.vbus:5)" to the first line of a message. */
export function withPosition(text: string, where: string): string {
  return where === '' ? text : text.replace(/$/m, ` (${where})`);
}

function pairs(values: Readonly<Record<string, string | number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}

function dumpLines(device: Device, indent = ''): string[] {
  return [
    `${indent}${device.name}: ${device.describe()}`,
    ...device.resources.map((resource) => `${indent}  ${describeResource(resource)}`),
    ...device.children.flatMap((child) => dumpLines(child, `${indent}  `)),
  ];
}
