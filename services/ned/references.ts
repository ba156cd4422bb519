/**
 * What ned holds: objects that scripts and namespaces refer to, counted, each known to Lua by a number.
 *
 * An object that a script created is held by ned's task from its creation; when the last of ned's own
 * references goes, its server is told. Tasks that were given the object hold it themselves by then.
 */
import { type Capability, narrow, RIGHTS_ALL } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import { Meta } from '../../proto/gen/services.js';

/** Telling a server about holders must not block ned for long. */
const META_DEADLINE_MS = 2000;

/** Names one object of one gate, whatever the rights. */
export const keyOf = ({ gate, object }: Pick<Capability, 'gate' | 'object'>): string => `${gate}/${object}`;

/** True for two capabilities of one object, whatever their rights. */
export const sameObject = (a: Capability, b: Capability | undefined): boolean =>
  b !== undefined && a.gate === b.gate && a.object === b.object;

export class References {
  readonly #ipc: Ipc;
  readonly #counts = new Map<string, number>();
  readonly #handles = new Map<number, Capability>();
  #next = 1;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  /** One more reference to an object that ned holds already, e.g. because it has just created it. */
  adopt(cap: Capability): void {
    this.#counts.set(keyOf(cap), (this.#counts.get(keyOf(cap)) ?? 0) + 1);
  }

  /** True while ned itself refers to that object. */
  has(object: Pick<Capability, 'gate' | 'object'>): boolean {
    return this.#counts.has(keyOf(object));
  }

  /** The gates whose objects ned refers to. */
  get gates(): string[] {
    return [...this.#counts.keys()].map((key) => key.slice(0, key.indexOf('/')));
  }

  /** One more reference; the server is told when it is ned's first. Throws L4Error when the server does not take it. */
  async acquire(cap: Capability): Promise<void> {
    const first = !this.#counts.has(keyOf(cap));
    this.adopt(cap);
    try {
      if (first) await this.hold(cap, this.#ipc.task);
    } catch (err) {
      this.release(cap);
      throw err;
    }
  }

  /** One reference less; the server is told when it was ned's last. */
  release(cap: Capability): void {
    const count = (this.#counts.get(keyOf(cap)) ?? 0) - 1;
    if (count > 0) {
      this.#counts.set(keyOf(cap), count);
      return;
    }
    this.#counts.delete(keyOf(cap));
    this.letGo(cap, this.#ipc.task);
  }

  /** A task is no holder of an object any more, as it will not get it after all. */
  letGo(cap: Capability, task: string): void {
    if (cap.object === 0) return;
    const options = { deadlineMs: META_DEADLINE_MS };
    // A server that is gone has no objects left either.
    void this.#ipc
      .client(Meta, cap)
      .release({ task }, options)
      .catch(() => {});
  }

  /** Makes a task a holder of an object. Gates themselves (object 0) have no holders. */
  async hold(cap: Capability, task: string): Promise<void> {
    if (cap.object !== 0) await this.#ipc.client(Meta, cap).hold({ task }, { deadlineMs: META_DEADLINE_MS });
  }

  /** The number by which Lua knows a capability of an object that ned holds already. */
  handleByAdopting(cap: Capability): number {
    this.adopt(cap);
    return this.#handleFor(cap);
  }

  /** The same for any object. Throws L4Error when its server does not take ned as a holder. */
  async handleByAcquiring(cap: Capability): Promise<number> {
    await this.acquire(cap);
    return this.#handleFor(cap);
  }

  #handleFor(cap: Capability): number {
    const handle = this.#next++;
    this.#handles.set(handle, cap);
    return handle;
  }

  /** The capability of a handle. Throws L4Error EINVAL for a number that is none. */
  get(handle: number): Capability {
    const cap = this.#handles.get(handle);
    if (!cap) throw new L4Error('EINVAL', `Cannot use capability ${handle} as there is none of that number`);
    return cap;
  }

  /** The capability of a handle, with no more than these rights. Throws L4Error EINVAL. */
  narrowed(handle: number, rights: number): Capability {
    return narrow(this.get(handle), rights & RIGHTS_ALL);
  }

  /** Lua has collected its last reference. */
  drop(handle: number): void {
    const cap = this.#handles.get(handle);
    if (!cap) return;
    this.#handles.delete(handle);
    this.release(cap);
  }
}
