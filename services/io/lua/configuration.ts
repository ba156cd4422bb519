/**
 * What configuration files do to the device trees: the operations behind the Lua library.
 *
 * Lua knows devices and resources by tokens (tokens.ts). Every operation gets the position of the line of the
 * script that asked; it either returns what Lua gets or throws, which becomes a Lua error.
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
  resourceId,
} from '../tree/resource.ts';
import { PciContainer, ProxyDevice, SystemBus, VI_TYPES, VirtualDevice } from '../tree/vi.ts';
import { effectOf } from './members.ts';
import { Tokens } from './tokens.ts';
import { type LuaValue, ScriptError, withPosition } from './values.ts';

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

/** Returns a LuaValue or several; what returns nothing gives nil. */
type Operation = (where: string, ...args: LuaValue[]) => unknown;

export class Configuration {
  readonly #root: HwDevice;
  readonly #log: Log;
  readonly #tokens = new Tokens();
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
  call(operation: string, where: string, args: readonly LuaValue[]): LuaValue[] {
    const perform = this.#operations[operation];
    if (perform === undefined) throw new ScriptError(`unknown operation ${operation}`);
    const result = perform(where, ...args) ?? undefined;
    return (Array.isArray(result) ? result : [result]) as LuaValue[];
  }

  readonly #operations: Readonly<Record<string, Operation>> = {
    print: (_where, text) => this.#print(String(text)),
    warn: (where, text) => this.#log.always(withPosition(String(text), where)),
    class_names: () => pairs(PCI_CLASS_ALIASES),
    constants: () => pairs(CONSTANTS),

    root: () => this.#tokens.ofDevice(this.#root),
    describe: (_where, token) => this.#tokens.device(token).describe(),
    name: (_where, token) => this.#tokens.device(token).name,
    set_name: (_where, token, name) => {
      this.#tokens.device(token).name = String(name);
    },
    hid: (_where, token) => this.#tokens.device(token).hid,
    adr: (_where, token) => this.#tokens.device(token).adr,
    depth: (_where, token) => this.#tokens.device(token).depth,
    parent: (_where, token) => this.#tokens.ofDevice(this.#tokens.device(token).parent),
    children: (_where, token) => this.#tokens.ofDevice(this.#tokens.device(token).children[0]),
    next: (_where, token) => this.#tokens.ofDevice(this.#tokens.device(token).nextSibling),
    find_by_name: (_where, token, name) =>
      this.#tokens.ofDevice(this.#tokens.device(token).findByName(String(name))),
    walk: (_where, token, levels) =>
      this.#tokens.ofDevices([...this.#tokens.device(token).walk(Number(levels))]),
    matches: (_where, token, ...ids) => this.#matches(this.#tokens.device(token), ids),
    match: (_where, token, ...ids) => this.#match(this.#tokens.device(token), ids),
    dump: (_where, token) => {
      for (const line of dumpLines(this.#tokens.device(token))) this.#print(line);
    },

    resources: (_where, token) =>
      this.#tokens
        .device(token)
        .resources.map((resource) => this.#tokens.ofResource(resource))
        .join(' '),
    resource_field: (_where, token, field) =>
      this.#tokens.resource(token)[field as 'id' | 'type' | 'flags' | 'start' | 'end'],
    describe_resource: (_where, token) => describeResource(this.#tokens.resource(token)),
    new_resource: (_where, kind, start, end, flags) =>
      this.#tokens.ofResource({
        type: RESOURCE_KINDS[kind as keyof typeof RESOURCE_KINDS],
        flags: Number(flags) >>> 0,
        start: Number(start),
        end: Number(end),
        id: 0,
      }),
    add_resource: (_where, token, resource) =>
      this.#tokens.device(token).addResource(this.#tokens.resource(resource)),

    create_hw: (where, type) => {
      if (!HW_TYPES.some((known) => known === type)) return undefined;
      return this.#create(new HwDevice(String(type), this.#log), where);
    },
    create_vi: (where, type) => {
      const create = VI_TYPES[String(type)];
      if (create !== undefined) return this.#create(create(), where);
      const known = Object.keys(VI_TYPES).join(', ');
      this.#log.warn(withPosition(`WARNING: there is no virtual device type '${type}': ${known}`, where));
      return undefined;
    },
    wrap: (where, token) => this.#wrap(this.#tokens.device(token), where),
    add_child: (where, parent, child, name) =>
      this.#addChild(
        this.#tokens.device(parent),
        child,
        name === undefined ? undefined : String(name),
        where,
      ),
    member: (where, token, kind, value, ...path) =>
      this.#addMember(this.#tokens.device(token), String(kind), value, path as (string | number)[], where),
    found_nothing: (_where, token, search) => {
      const device = this.#tokens.device(token);
      this.#pending.set(device, [...(this.#pending.get(device) ?? []), String(search)]);
    },
    add_vbus: (where, name, token) => this.#addVbus(String(name), this.#tokens.device(token), where),
  };

  /** Searches that found nothing, by the device whose body they stand in. */
  readonly #pending = new Map<Device, string[]>();

  #matches(device: Device, ids: readonly LuaValue[]): boolean {
    return ids.some((id) => device.matches(String(id)));
  }

  /** The devices found, and what is odd about the strings when there are none. */
  #match(top: Device, ids: readonly LuaValue[]): [found: string, oddity: string] {
    const found = [...top.walk()].filter((device) => this.#matches(device, ids));
    const odd = ids.map((id) => explainPciId(String(id))).find((text) => text !== undefined);
    return [this.#tokens.ofDevices(found), odd === undefined ? '' : ` (${odd})`];
  }

  #addMember(
    device: Device,
    kind: string,
    value: LuaValue,
    path: readonly (string | number)[],
    where: string,
  ): void {
    const effect = effectOf({ path, kind, value });
    switch (effect.kind) {
      case 'compatible':
        device.compatible.push(effect.id);
        return;
      case 'property':
        this.#setProperty(device, effect.name, effect.index, effect.value, where);
        return;
      case 'resource': {
        const resource = this.#tokens.resource(effect.token);
        resource.id = resourceId(effect.name);
        device.addResource(resource);
        return;
      }
      case 'child':
        this.#addChild(device, effect.token, effect.name, where);
        return;
      case 'ignored':
        this.#log.always(withPosition(effect.warning, where));
    }
  }

  #setProperty(device: Device, name: string, index: number, value: LuaValue, where: string): void {
    const result = device.properties.set(name, index, value);
    if (result === 'ok') return;
    const text =
      result.reason === 'unknown'
        ? `error: no property '${name}' registered`
        : `error: setting property ${name} failed`;
    this.#log.always(withPosition(`${text}: ${result.detail}`, where));
  }

  #create(device: Device, where: string): string {
    device.origin = where;
    return this.#tokens.ofDevice(device);
  }

  #wrap(device: Device, where: string): string {
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

  #addChild(parent: Device, childToken: LuaValue, name: string | undefined, where: string): undefined {
    const child = this.#tokens.device(childToken);
    const label = name ?? child.name;
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
    child.name = label;
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
