/**
 * Inhibitor locks of one vbus: what its client does not want to happen now.
 */
import { L4Error } from '#common/ipc/errors';

export const INHIBITOR_SUSPEND = 0;
const NAMES = ['suspend', 'shutdown', 'wakeup'];

export class Inhibitors {
  /** Lock id to the reason it was taken for. */
  readonly #held = new Map<number, string>();

  /** @throws L4Error ENODEV for an id that does not exist */
  acquire(id: number, reason: string): void {
    this.#held.set(this.#check(id), reason);
  }

  /** Releasing a lock that is not held is no error. */
  release(id: number): void {
    this.#held.delete(this.#check(id));
  }

  heldFor(id: number): string | undefined {
    return this.#held.get(id);
  }

  /**
   * The lock behind `id`; -1 starts the enumeration.
   * @throws L4Error ENODEV at the end
   */
  next(id: number): { id: number; name: string } {
    const next = this.#check(id + 1);
    return { id: next, name: NAMES[next] as string };
  }

  #check(id: number): number {
    if (Number.isInteger(id) && id >= 0 && id < NAMES.length) return id;
    throw new L4Error(
      'ENODEV',
      `Cannot use inhibitor ${id} as there are only ${NAMES.map((n, i) => `${i} (${n})`).join(', ')}`,
    );
  }
}
