/** Who waits for something about the tasks to change. */
import { L4Error } from '#common/ipc/errors';

export class Watchers {
  readonly #checks = new Set<() => void>();

  /** Calls `look` now and after every change until it returns a value. Rejects when it throws, or `signal` is aborted. */
  async watch<T>(look: () => T | undefined, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const check = () => {
        try {
          const value = look();
          if (value === undefined) return;
          stop();
          resolve(value);
        } catch (err) {
          stop();
          reject(err);
        }
      };
      const onAbort = () => {
        stop();
        reject(new L4Error('EIPC_CANCELED', 'Waiting for a task was abandoned'));
      };
      const stop = () => {
        this.#checks.delete(check);
        signal?.removeEventListener('abort', onAbort);
      };
      this.#checks.add(check);
      if (signal?.aborted) {
        onAbort();
        return;
      }
      signal?.addEventListener('abort', onAbort, { once: true });
      check();
    });
  }

  changed(): void {
    for (const check of [...this.#checks]) check();
  }
}
