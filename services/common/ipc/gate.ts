/**
 * A server's gate: a ROUTER socket and the objects behind it.
 *
 * For every request, in this order and before the body is decoded: proof, object, service, operation,
 * rights. Objects made for a client have holders (tasks); when the last one has released it or has
 * ended, the object is gone, as a kernel object is without references.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { Router } from 'zeromq';
import { isRandomName } from '#common/shm/run_dir';
import { l4lab as m } from '../../../proto/gen/messages.js';
import { Meta } from '../../../proto/gen/services.js';
import {
  type Capability,
  mint,
  RIGHT_S,
  RIGHTS_ALL,
  rightsOf,
  type ServerEnd,
  verify,
} from './capability.ts';
import { L4Error, toL4Error } from './errors.ts';
import { SendQueue } from './send_queue.ts';
import { type Binding, bind, type CallContext, type Handlers, type Method } from './service.ts';

const MAX_MESSAGE_BYTES = 4 * 2 ** 20;
/** More tasks than a lab has; a client may name as many as it likes. */
const MAX_HOLDERS = 1024;

interface Operation {
  readonly method: Method;
  readonly what: string;
  readonly handler: (request: never, context: CallContext) => unknown;
}

interface GateObject {
  readonly services: string[];
  /** By `<service>/<opcode>`. */
  readonly operations: Map<string, Operation>;
  readonly rights: number;
  /** Undefined: the object lives as long as its gate. */
  readonly holders: Set<string> | undefined;
  readonly onHolders: ((holders: readonly string[]) => void) | undefined;
  readonly onGone: (() => void) | undefined;
}

/** A call in progress. */
interface Running {
  readonly task: string;
  readonly controller: AbortController;
  /** The calling task has ended meanwhile. */
  gone: boolean;
}

export interface ExportOptions {
  /** Rights that the object can ever give; default all. */
  rights?: number;
  /** Task that holds the new object, usually `context.task`. Without one it lives as long as its gate. */
  holder?: string;
  /** The same for an object of an earlier life of the server, which may have several; at least one. */
  holders?: readonly string[];
  /** Others hold the object now; not called when the last one is gone. */
  onHolders?: (holders: readonly string[]) => void;
  /** The last holder is gone. The object answers no more. */
  onGone?: () => void;
  /** A fixed id above 0, so that clients find the object again after a restart; default random. */
  id?: number | undefined;
}

export class Gate {
  readonly #end: ServerEnd;
  readonly #path: string;
  readonly #socket: Router;
  readonly #replies: SendQueue<Uint8Array[]>;
  /** Never 0, and another one after each start. */
  readonly #life = randomBytes(4).readUInt32LE() || 1;
  readonly #objects = new Map<number, GateObject>();
  /** Calls in progress by `<client>/<id>`. */
  readonly #running = new Map<string, Running>();
  /** Resolved by the first `setRoot`: calls that come between the binding and it wait. */
  #allMade: Promise<void> | undefined;
  #rootSet: Promise<void>;
  #haveRoot: () => void = () => {};
  readonly #onServing: (serving: boolean) => void;
  #closed = false;

  private constructor(end: ServerEnd, path: string, onServing: (serving: boolean) => void) {
    this.#onServing = onServing;
    this.#end = end;
    this.#path = path;
    this.#socket = new Router({
      linger: 100,
      sendHighWaterMark: 0,
      receiveHighWaterMark: 0,
      maxMessageSize: MAX_MESSAGE_BYTES,
    });
    this.#rootSet = new Promise((resolve) => {
      this.#haveRoot = resolve;
    });
    // A client that is gone cannot take its reply; nobody else is concerned.
    this.#replies = new SendQueue(this.#socket, () => {});
  }

  /**
   * Binds the gate's socket at `path`. Calls to the gate itself wait for `setRoot`, which calls `onServing`. `prepare`
   * exports what is to be there before the first call can come.
   */
  static async bind(
    end: ServerEnd,
    path: string,
    prepare?: (gate: Gate) => void,
    onServing: (serving: boolean) => void = () => {},
  ): Promise<Gate> {
    const gate = new Gate(end, path, onServing);
    prepare?.(gate);
    rmSync(`${path}.dead`, { force: true });
    await gate.#socket.bind(`ipc://${path}`);
    void gate.#serve();
    return gate;
  }

  /** What stands behind the gate itself (object 0). */
  setRoot(bindings: readonly Binding[], rights = RIGHTS_ALL): void {
    this.#objects.set(0, this.#makeObject(0, bindings, { rights }));
    this.#haveRoot();
    this.#onServing(true);
  }

  /** Takes away what stands behind the gate itself: calls to it wait for the next `setRoot`. */
  clearRoot(): void {
    this.#objects.delete(0);
    this.#onServing(false);
    this.#rootSet = new Promise((resolve) => {
      this.#haveRoot = resolve;
    });
  }

  /**
   * Calls to objects that are not there wait for `all` before they are refused: a server that was started again makes its
   * objects one by one, and their clients still have their capabilities.
   */
  awaitObjects(all: Promise<void>): void {
    this.#allMade = all;
    void all.then(() => {
      if (this.#allMade === all) this.#allMade = undefined;
    });
  }

  /** Makes an object and returns the full capability for it. */
  export(bindings: readonly Binding[], options: ExportOptions = {}): Capability {
    let id = options.id ?? 0;
    while (id === 0 || this.#objects.has(id)) id = randomBytes(4).readUInt32LE();
    this.#objects.set(id, this.#makeObject(id, bindings, options));
    return mint(this.#end, id);
  }

  /** Takes an object away, whoever holds it; `onGone` is called. */
  destroy(cap: { object: number }): void {
    const object = this.#objects.get(cap.object);
    if (!object || cap.object === 0) return;
    this.#objects.delete(cap.object);
    object.onGone?.();
  }

  /** The task does not hold the object (any more). The last one's release takes it away. */
  release(cap: { object: number }, task: string): void {
    const object = this.#objects.get(cap.object);
    if (!object?.holders?.delete(task)) return;
    if (object.holders.size === 0) this.destroy(cap);
    else object.onHolders?.([...object.holders]);
  }

  /** True for a capability that this gate made, e.g. to recognise one that comes back as an argument. */
  owns(cap: Capability): boolean {
    return cap.gate === this.#end.gate && this.#objects.has(cap.object) && verify(this.#end, cap);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { controller } of this.#running.values()) controller.abort();
    this.#socket.close();
    rmSync(this.#path, { force: true });
  }

  #makeObject(id: number, bindings: readonly Binding[], options: ExportOptions): GateObject {
    const all = [...bindings, bind(Meta, this.#meta(id))];
    const operations = new Map<string, Operation>();
    for (const { service, handlers } of all) {
      for (const [name, method] of Object.entries(service.methods)) {
        const handler = handlers[name];
        if (!handler) throw new Error(`Cannot export object as ${service.name} has no handler for ${name}`);
        const what = `${service.name.slice(service.name.lastIndexOf('.') + 1)}.${name}`;
        operations.set(`${service.name}/${method.opcode}`, { method, what, handler });
      }
    }
    return {
      services: bindings.map(({ service }) => service.name),
      operations,
      rights: options.rights ?? RIGHTS_ALL,
      holders: holdersOf(options),
      onHolders: options.onHolders,
      onGone: options.onGone,
    };
  }

  #meta(id: number): Handlers<typeof Meta> {
    return {
      interfaces: (_request, { rights }) => ({ services: this.#objects.get(id)?.services ?? [], rights }),
      hold: ({ task }) => {
        this.#hold(id, task);
        return {};
      },
      release: ({ task }) => {
        this.release({ object: id }, task);
        return {};
      },
      taskGone: ({ task }, caller) => {
        if (id !== 0) throw new L4Error('EPERM', 'Cannot end a task here as only the gate itself takes that');
        this.#forget(task, caller.task === task ? caller.signal : undefined);
        return {};
      },
    };
  }

  /**
   * The task has ended: it holds nothing any more, and its calls in progress are abandoned. A task that says so of itself,
   * with the call of that signal, means an earlier life: what it has called since goes on.
   */
  #forget(task: string, until: AbortSignal | undefined): void {
    for (const object of [...this.#objects.keys()]) this.release({ object }, task);
    // In the order of their arrival.
    for (const running of this.#running.values()) {
      if (running.controller.signal === until) break;
      if (running.task !== task) continue;
      running.gone = true;
      running.controller.abort();
    }
  }

  #hold(id: number, task: string): void {
    const object = this.#objects.get(id);
    if (!object?.holders || object.holders.has(task)) return;
    if (!isRandomName(task))
      throw new L4Error('EINVAL', `Cannot hold object as a task's id must be 32 hex digits: it is "${task}"`);
    if (object.holders.size >= MAX_HOLDERS)
      throw new L4Error('ENOMEM', `Cannot hold object as it has at most ${MAX_HOLDERS} holders`);
    object.holders.add(task);
    object.onHolders?.([...object.holders]);
  }

  async #serve(): Promise<void> {
    try {
      for await (const [client, head, body] of this.#socket) {
        if (client && head) this.#onRequest(client, head, body ?? new Uint8Array(0));
      }
    } catch (err) {
      if (!this.#closed) throw err;
    }
  }

  #onRequest(client: Uint8Array, head: Uint8Array, body: Uint8Array): void {
    let header: m.CallHeader;
    try {
      header = m.CallHeader.decode(head);
    } catch {
      return; // no call id: there is nobody to answer
    }
    // The caller has been told already that the server, an earlier one, went away.
    if (header.life !== 0 && header.life !== this.#life) return;
    const key = `${Buffer.from(client).toString('latin1')}/${header.id}`;
    if (header.cancel) this.#running.get(key)?.controller.abort();
    else void this.#perform(client, header, body, key);
  }

  async #perform(client: Uint8Array, header: m.CallHeader, body: Uint8Array, key: string): Promise<void> {
    const controller = new AbortController();
    const running: Running = { task: header.task, controller, gone: false };
    this.#running.set(key, running);
    try {
      if (header.object === 0) await this.#rootSet;
      else if (this.#allMade && !this.#objects.has(header.object) && verify(this.#end, header))
        await this.#allMade;
      if (controller.signal.aborted)
        throw new L4Error('EIPC_CANCELED', 'The call was abandoned before it began');
      const { object, operation } = this.#find(header);
      const rights = object.rights & rightsOf(header);
      if ((rights & operation.method.needs) !== operation.method.needs) {
        throw new L4Error(
          'EPERM',
          `Cannot call ${operation.what} as the capability lacks the rights "${letters(operation.method.needs & ~rights)}": it has "${letters(rights)}"`,
        );
      }
      const request = decode(operation, body);
      const reply = await operation.handler(request as never, {
        rights,
        task: header.task,
        signal: controller.signal,
      });
      if (running.gone) this.#takeBack(reply, header.task);
      this.#reply(client, { id: header.id }, operation.method.reply.encode(reply).finish());
    } catch (err) {
      const { errno, code, message } = toL4Error(err);
      this.#reply(client, { id: header.id, error: errno, code, message }, new Uint8Array(0));
    } finally {
      this.#running.delete(key);
    }
  }

  /** What a call has made for a task that ended before it could have it. */
  #takeBack(reply: unknown, task: string): void {
    const { object } = (reply ?? {}) as { object?: Partial<Capability> | null };
    if (object?.gate === this.#end.gate && object.object !== undefined)
      this.release({ object: object.object }, task);
  }

  #find(header: m.CallHeader): { object: GateObject; operation: Operation } {
    if (!verify(this.#end, header)) {
      throw new L4Error('EPERM', `Cannot call object ${header.object} as the capability's proof is wrong`, {
        code: 'IPC_BAD_PROOF',
      });
    }
    const object = this.#objects.get(header.object);
    if (!object) {
      throw new L4Error(
        'EIPC_NOT_EXISTENT',
        `Cannot call object ${header.object.toString(16)} as it is gone`,
        { code: 'IPC_OBJECT_GONE' },
      );
    }
    const operation = object.operations.get(`${header.service}/${header.opcode}`);
    if (!operation) {
      throw new L4Error(
        'EBADPROTO',
        `Cannot call operation ${header.opcode} of ${header.service} as the object implements ${object.services.join(', ') || 'nothing'}`,
      );
    }
    return { object, operation };
  }

  #reply(client: Uint8Array, header: m.IReplyHeader, body: Uint8Array): void {
    if (this.#closed) return;
    this.#replies.push([client, m.ReplyHeader.encode({ ...header, life: this.#life }).finish(), body]);
  }
}

function holdersOf({ holder, holders }: ExportOptions): Set<string> | undefined {
  if (holders) return new Set(holders);
  return holder === undefined ? undefined : new Set([holder]);
}

function decode(operation: Operation, body: Uint8Array): unknown {
  try {
    return operation.method.request.decode(body);
  } catch (cause) {
    throw new L4Error(
      'EMSGTOOSHORT',
      `Cannot call ${operation.what} as its message does not decode: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** "rws" for a mask. */
export function letters(rights: number): string {
  return [[4, 'r'] as const, [1, 'w'] as const, [RIGHT_S, 's'] as const, [8, 'd'] as const]
    .map(([bit, letter]) => (rights & bit ? letter : ''))
    .join('');
}
