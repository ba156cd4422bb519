/** A process's door to capabilities: typed clients for the ones it has, gates for the ones it serves. */
import { join } from 'node:path';
import { Meta } from '../../../proto/gen/services.js';
import { type Capability, describe, isCapability, type ServerEnd } from './capability.ts';
import { Connection, epitaphOf } from './connection.ts';
import { L4Error } from './errors.ts';
import { Gate } from './gate.ts';
import type { CallOptions, Client, Service } from './service.ts';

/** The kernel's limit for the path of a Unix socket (sun_path). */
const MAX_SOCKET_PATH = 107;

export interface IpcOptions {
  /** Run directory of the lab. */
  readonly runDir: string;
  /** Id of this task, 32 hex digits. */
  readonly task: string;
  /** Told after a second when a call still waits for its server. */
  readonly onWaiting?: (text: string) => void;
  /** How messages call a gate; default its first digits. */
  readonly nameOf?: (gate: string) => string | undefined;
  /** Told when a gate of ours begins to answer calls, or ceases to. */
  readonly onServing?: (gate: string, serving: boolean) => void;
}

/** Where a gate's server listens. */
export function gatePath(runDir: string, gate: string): string {
  const path = join(runDir, 'g', gate);
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new L4Error(
      'ENAMETOOLONG',
      `Cannot use run directory ${runDir} as its sockets' paths must have at most ${MAX_SOCKET_PATH} bytes: this one has ${Buffer.byteLength(path)}; set L4LAB_RUN_BASE to a shorter directory on a tmpfs`,
    );
  }
  return path;
}

export class Ipc {
  readonly #options: IpcOptions;
  readonly #connections = new Map<string, Connection>();
  readonly #gates: Gate[] = [];

  constructor(options: IpcOptions) {
    this.#options = options;
  }

  /** Id of this task. */
  get task(): string {
    return this.#options.task;
  }

  /** Calls on one object. Needs nobody to be there yet: the first call waits for the server. */
  client<S extends Service>(service: S, cap: Capability): Client<S> {
    if (!isCapability(cap))
      throw new L4Error('EINVAL', `Cannot use capability for ${service.name} as it is malformed`);
    const client: Record<string, unknown> = {};
    for (const name of Object.keys(service.methods)) {
      client[name] = (request = {}, options: CallOptions = {}) =>
        this.#call(service, name, cap, request, options);
    }
    return client as Client<S>;
  }

  /** The names of the services that an object implements, e.g. `l4lab.Factory`. Waits for its server. */
  async interfaces(
    cap: Capability,
    options: CallOptions = {},
  ): Promise<{ services: string[]; rights: number }> {
    return this.client(Meta, cap).interfaces({}, options);
  }

  /** Resolves when the server of that gate, which has been called before, goes away. */
  whenGone(cap: Capability): Promise<void> {
    return this.#connection(cap).whenDown();
  }

  /** Ends the connection to a gate that will not be called again; calls in progress fail. */
  forget(gate: string): void {
    this.#connections.get(gate)?.close();
    this.#connections.delete(gate);
  }

  /** Why ned says that nobody serves that gate any more; undefined as long as there is, or may be, a server. */
  epitaph(cap: Capability): string | undefined {
    return epitaphOf(gatePath(this.#options.runDir, cap.gate));
  }

  /** Becomes the server of a gate. `prepare` exports what is to be there before the first call can come. */
  async serve(end: ServerEnd, prepare?: (gate: Gate) => void): Promise<Gate> {
    const { runDir, onServing } = this.#options;
    const tell = (serving: boolean): void => onServing?.(end.gate, serving);
    const gate = await Gate.bind(end, gatePath(runDir, end.gate), prepare, tell);
    this.#gates.push(gate);
    return gate;
  }

  /** Ends all connections and gates; calls in progress fail. */
  close(): void {
    for (const connection of this.#connections.values()) connection.close();
    for (const gate of this.#gates) gate.close();
    this.#connections.clear();
  }

  async #call(
    service: Service,
    name: string,
    cap: Capability,
    request: unknown,
    options: CallOptions,
  ): Promise<unknown> {
    const method = service.methods[name];
    if (!method) throw new TypeError(`${service.name} has no operation ${name}`);
    const { object, masks, proof } = cap;
    const body = await this.#connection(cap).call({
      what: `${service.name.slice(service.name.lastIndexOf('.') + 1)}.${name}`,
      header: {
        object,
        masks,
        proof,
        service: service.name,
        opcode: method.opcode,
        task: options.task ?? this.#options.task,
      },
      body: method.request.encode(request).finish(),
      options,
    });
    try {
      return method.reply.decode(body);
    } catch (cause) {
      throw new L4Error(
        'EMSGTOOSHORT',
        `Cannot use the reply of ${service.name}.${name} as it does not decode: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  #connection(cap: Capability): Connection {
    let connection = this.#connections.get(cap.gate);
    if (!connection) {
      connection = new Connection({
        path: gatePath(this.#options.runDir, cap.gate),
        peer: () => this.#options.nameOf?.(cap.gate) ?? `gate ${describe({ gate: cap.gate, object: 0 })}`,
        onWaiting: (text) => this.#options.onWaiting?.(text),
      });
      this.#connections.set(cap.gate, connection);
    }
    return connection;
  }
}
