/**
 * A node of a device tree, hardware or virtual: name, identification, resources, children.
 */
import { Properties } from './property.ts';
import type { Resource } from './resource.ts';

/** Levels of a device tree. A machine has at most 256 PCI busses below one another. */
const MAX_LEVELS = 300;

export abstract class Device {
  name = '';
  parent: Device | undefined;
  readonly children: Device[] = [];
  readonly compatible: string[] = [];
  readonly properties = new Properties();
  /** Where the configuration made it: "rom/ixl.vbus:5"; empty for discovered devices. */
  origin = '';

  /** Hardware id, e.g. "PNP0A03"; undefined when the device has none. */
  abstract get hid(): string | undefined;
  /** Bus address (PCI: device << 16 | function); undefined when the device has none. */
  abstract get adr(): number | undefined;
  abstract get resources(): readonly Resource[];
  abstract addResource(resource: Resource): void;
  /** True when the device matches one string of the match syntax; see match.ts. */
  abstract matches(id: string): boolean;
  /** For messages and `Io.dump_devs`: "PCI device 00:03.0 8086:100e class 0200". */
  abstract describe(): string;

  /**
   * Why `child` cannot be added here, or undefined when it can. Subclasses add their own rules.
   */
  refuses(child: Device): string | undefined {
    if (child.parent !== undefined) {
      return `Cannot add device '${child.name}' to '${this.name}' as it is a child of '${child.parent.name}' already`;
    }
    for (let node: Device | undefined = this; node !== undefined; node = node.parent) {
      if (node === child)
        return `Cannot add device '${child.name}' to '${this.name}' as it would contain itself`;
    }
    if (this.depth + child.levels >= MAX_LEVELS)
      return `Cannot add device '${child.name}' to '${this.name}' as a tree has at most ${MAX_LEVELS} levels`;
    return undefined;
  }

  /** Appends a child that `refuses` has nothing against. */
  addChild(child: Device): void {
    child.parent = this;
    this.children.push(child);
  }

  get depth(): number {
    let depth = 0;
    for (let node = this.parent; node !== undefined; node = node.parent) depth += 1;
    return depth;
  }

  /** How many levels there are from here down: 1 without children. */
  get levels(): number {
    return 1 + this.children.reduce((most, child) => Math.max(most, child.levels), 0);
  }

  get nextSibling(): Device | undefined {
    const siblings = this.parent?.children ?? [];
    return siblings[siblings.indexOf(this) + 1];
  }

  /** This device and everything at most `maxDepth` levels below it, in pre-order. */
  *walk(maxDepth = Number.POSITIVE_INFINITY): Generator<Device> {
    yield this;
    if (maxDepth <= 0) return;
    for (const child of this.children) yield* child.walk(maxDepth - 1);
  }

  findByName(name: string): Device | undefined {
    return this.children.find((child) => child.name === name);
  }
}
