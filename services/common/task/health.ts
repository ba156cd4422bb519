/**
 * Whether a task does what it is there for: what it knows about itself, kept in files for those who ask
 * from outside, e.g. the health checks of containers, without a process of ours having to start.
 *
 * A file has one line: `ready`, or why not. It is touched every two seconds by the task's event loop: one
 * that is older belongs to a task that is stopped, busy or dead.
 */
import { readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';

const TOUCH_MS = 2000;
const READY = 'ready';

export class Health {
  readonly #paths: readonly string[];
  readonly #problems = new Map<string, string>();
  /** Capability names of the gates that it is there for. */
  readonly #gates = new Map<string, string>();
  readonly #timer: NodeJS.Timeout;
  #written = '';
  #warned = false;

  /** Writes these files whenever something changes. The task is not ready before `set('start')`. */
  constructor(paths: readonly string[], problem = 'it is being started') {
    this.#paths = paths;
    this.#timer = setInterval(() => this.#touch(), TOUCH_MS);
    this.#timer.unref();
    this.set('start', problem);
  }

  /** What is wrong with one of the things that the task depends on or does; undefined: nothing (any more). */
  set(topic: string, problem?: string): void {
    if (problem === undefined) this.#problems.delete(topic);
    else this.#problems.set(topic, problem.split('\n')[0] ?? '');
    const [first = READY] = this.#problems.values();
    if (first === this.#written) return;
    this.#written = first;
    for (const path of this.#paths) this.#write(path);
  }

  /** The task is there to serve this gate: until it does it is not ready. `name` is that of the capability. */
  expectGate(gate: string, name: string): void {
    this.#gates.set(gate, name);
    this.serving(gate, false);
  }

  /** A gate of the task begins to answer calls, or ceases to. */
  serving(gate: string, serving: boolean): void {
    const name = this.#gates.get(gate);
    if (name !== undefined) this.set(`gate ${gate}`, serving ? undefined : `it does not serve '${name}' yet`);
  }

  /** Why the task is not ready; undefined: it is. */
  get problem(): string | undefined {
    return this.#problems.values().next().value;
  }

  /** The task has ended: the files go. */
  close(): void {
    clearInterval(this.#timer);
    for (const path of this.#paths) rmSync(path, { force: true });
  }

  /** Readers see the old line or the new one. */
  #write(path: string): void {
    try {
      writeFileSync(`${path}.new`, `${this.#written}\n`, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (err) {
      this.#warn(err as Error);
    }
  }

  #touch(): void {
    const now = new Date();
    for (const path of this.#paths) {
      try {
        utimesSync(path, now, now);
      } catch {
        this.#write(path);
      }
    }
  }

  #warn({ message }: Error): void {
    if (this.#warned) return;
    this.#warned = true;
    console.error(`Cannot tell whether this task is ready: ${message} (L4LAB_HEALTH_FILE)`);
  }
}

/** What such a file says is wrong; undefined: nothing, or there is no such file. */
export function readProblem(path: string): string | undefined {
  try {
    const line = readFileSync(path, 'utf8').trimEnd();
    return line === READY ? undefined : line;
  } catch {
    return undefined;
  }
}
