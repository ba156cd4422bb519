/** Names by which Lua knows devices ("d1", "d2", ...) and resources ("r1", ...); see library/host.lua.ts. */
import type { Device } from '../tree/device.ts';
import type { Resource } from '../tree/resource.ts';
import { type LuaValue, ScriptError } from './values.ts';

class Numbered<T> {
  readonly #letter: string;
  readonly #objects: T[] = [];
  readonly #tokens = new Map<T, string>();

  constructor(letter: string) {
    this.#letter = letter;
  }

  tokenOf(object: T): string {
    const known = this.#tokens.get(object);
    if (known !== undefined) return known;
    const token = `${this.#letter}${this.#objects.push(object)}`;
    this.#tokens.set(object, token);
    return token;
  }

  find(token: LuaValue): T | undefined {
    return typeof token === 'string' && token.startsWith(this.#letter)
      ? this.#objects[Number(token.slice(1)) - 1]
      : undefined;
  }
}

export class Tokens {
  readonly #devices = new Numbered<Device>('d');
  readonly #resources = new Numbered<Resource>('r');

  ofDevice(device: Device): string;
  ofDevice(device: Device | undefined): string | undefined;
  ofDevice(device: Device | undefined): string | undefined {
    return device && this.#devices.tokenOf(device);
  }

  ofResource(resource: Resource): string {
    return this.#resources.tokenOf(resource);
  }

  /** "d1 d4" */
  ofDevices(devices: readonly Device[]): string {
    return devices.map((device) => this.#devices.tokenOf(device)).join(' ');
  }

  /** Throws ScriptError for what is no device's token. */
  device(token: LuaValue): Device {
    const device = this.#devices.find(token);
    if (device === undefined) throw new ScriptError(`expected device, got: ${token}`);
    return device;
  }

  /** Throws ScriptError for what is no resource's token. */
  resource(token: LuaValue): Resource {
    const resource = this.#resources.find(token);
    if (resource === undefined) throw new ScriptError(`expected resource, got: ${token}`);
    return resource;
  }
}
