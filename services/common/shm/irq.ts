/**
 * Interrupt objects: what an IRQ kernel object is on L4Re.
 *
 * The receiver makes a doorbell and a page of shared state under the same name; the source gets the
 * name (message Irq). Level interrupts mask themselves when they fire and fire again on `unmask` as
 * long as the line is asserted; all without a message between the processes.
 *
 * State words (i32): 0 asserted (written by the source), 1 masked (both, compare-and-swap), 2 count
 * of edges (source). Store-then-load pairs need Atomics: the source stores `asserted` and then looks
 * at `masked`, the receiver stores `masked` and then looks at `asserted`, so one of them sees the other.
 */
import { closeSync, constants, fstatSync, openSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { L4Error } from '#common/ipc/errors';
import { type Arena, PAGE_SIZE } from './arena.ts';
import type { Bell, Doorbell, Doorbells } from './doorbell.ts';
import * as libc from './libc.ts';
import { isRandomName } from './run_dir.ts';
import { outOfSpace } from './space.ts';

const ASSERTED = 0;
const MASKED = 1;
const EDGES = 2;

/** Makes the state record of a new interrupt object; what goes wrong leaves no file. */
function makeState(path: string, arena: Arena): number {
  const fd = openSync(path, 'wx+', 0o600);
  try {
    libc.fallocate(fd, PAGE_SIZE);
    return arena.mapFile(fd, PAGE_SIZE, true);
  } catch (err) {
    unlinkSync(path);
    throw err;
  } finally {
    closeSync(fd);
  }
}

/** Maps the state record of a peer's interrupt object. Throws L4Error EINVAL when it is none. */
function openState(runDir: string, arena: Arena, name: string): number {
  if (!isRandomName(name)) {
    throw new L4Error(
      'EINVAL',
      `Cannot open interrupt as its name must be 32 hex digits: current value is "${name}"`,
    );
  }
  let fd: number;
  try {
    fd = openSync(join(runDir, 'm', name), constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (cause) {
    throw new L4Error('EINVAL', `Cannot open interrupt ${name} as there is none of that name in this lab`, {
      cause,
    });
  }
  try {
    if (fstatSync(fd).size < PAGE_SIZE) {
      throw new L4Error('EINVAL', `Cannot open interrupt ${name} as its state record is shorter than a page`);
    }
    return arena.mapFile(fd, PAGE_SIZE, true);
  } finally {
    closeSync(fd);
  }
}

/** The end that waits for an interrupt: a driver. Starts masked. */
export class IrqReceiver {
  /** What to bind at an ICU. */
  readonly ref: { readonly name: string };
  readonly #arena: Arena;
  readonly #offset: number;
  readonly #word: number;
  readonly #path: string;
  readonly #bell: Doorbell;
  #onIrq: () => void = () => {};
  #closed = false;

  /** Throws L4Error ENOMEM when /dev/shm or the arena is full. */
  constructor(runDir: string, arena: Arena, doorbells: Doorbells) {
    this.#bell = doorbells.create();
    this.ref = { name: this.#bell.name };
    this.#arena = arena;
    this.#path = join(runDir, 'm', this.#bell.name);
    try {
      this.#offset = makeState(this.#path, arena);
    } catch (err) {
      this.#bell.close();
      throw outOfSpace(err, 'an interrupt object', runDir);
    }
    this.#word = this.#offset >>> 2;
    Atomics.store(arena.i32, this.#word + MASKED, 1);
  }

  /** Calls `onIrq` from the event loop when the interrupt fires. Once per object. */
  listen(onIrq: () => void): void {
    this.#onIrq = onIrq;
    this.#bell.listen(onIrq);
  }

  /** Lets the interrupt fire again; if its line is still asserted it does so at once (from the event loop). */
  unmask(): void {
    if (this.#closed) return;
    const { i32 } = this.#arena;
    Atomics.store(i32, this.#word + MASKED, 0);
    if (Atomics.load(i32, this.#word + ASSERTED) === 0) return;
    if (Atomics.compareExchange(i32, this.#word + MASKED, 0, 1) === 0) {
      setImmediate(() => {
        if (!this.#closed) this.#onIrq();
      });
    }
  }

  /** Edges counted by the source so far, modulo 2^32. */
  get edges(): number {
    return Atomics.load(this.#arena.i32, this.#word + EDGES) >>> 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#bell.close();
    this.#arena.unmap(this.#offset, PAGE_SIZE);
    try {
      unlinkSync(this.#path);
    } catch {
      // The run directory is gone already.
    }
  }
}

/** The end that raises an interrupt: the machine. */
export class IrqSource {
  readonly name: string;
  readonly #arena: Arena;
  readonly #offset: number;
  readonly #word: number;
  readonly #bell: Bell;
  #closed = false;

  /** Throws L4Error EINVAL when there is no such interrupt object. */
  constructor(runDir: string, arena: Arena, doorbells: Doorbells, ref: { name?: string | null }) {
    this.name = ref.name ?? '';
    this.#arena = arena;
    this.#offset = openState(runDir, arena, this.name);
    this.#word = this.#offset >>> 2;
    try {
      this.#bell = doorbells.open(this.name);
    } catch (err) {
      arena.unmap(this.#offset, PAGE_SIZE);
      throw err;
    }
  }

  /** Level-triggered: the line's state from now on. Fires when asserted and not masked. */
  setLevel(asserted: boolean): void {
    if (this.#closed) return;
    const { i32 } = this.#arena;
    Atomics.store(i32, this.#word + ASSERTED, asserted ? 1 : 0);
    if (asserted && Atomics.compareExchange(i32, this.#word + MASKED, 0, 1) === 0) this.#bell.ring();
  }

  /** Edge-triggered (MSI): fires once, masked or not. */
  trigger(): void {
    if (this.#closed) return;
    Atomics.add(this.#arena.i32, this.#word + EDGES, 1);
    this.#bell.ring();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#bell.close();
    this.#arena.unmap(this.#offset, PAGE_SIZE);
  }
}
