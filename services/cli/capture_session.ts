/** The reading end of a capture: memory, doorbell, and the FIFO whose end tells the switch that we are gone. */
import { RingReader } from '#common/capture/ring_reader';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { Lifeline } from '#common/shm/lifeline';
import { randomName } from '#common/shm/run_dir';
import { ANSWER, type SwitchClient } from './switches.ts';

/** Addresses for the ring and a buffer. */
const ARENA_BYTES = 2 ** 25;

export class CaptureSession {
  readonly arena: Arena;
  readonly names: readonly string[];
  readonly reader: RingReader;
  readonly #close: () => void;
  #wake: () => void = () => {};

  private constructor(arena: Arena, names: readonly string[], reader: RingReader, close: () => void) {
    this.arena = arena;
    this.names = names;
    this.reader = reader;
    this.#close = close;
  }

  /** Begins to capture. Throws UsageError, or L4Error when the switch refuses. */
  static async open(
    one: SwitchClient,
    ports: readonly string[],
    snapLength: number,
  ): Promise<CaptureSession> {
    const { dir } = one.lab;
    const arena = new Arena(ARENA_BYTES);
    const memories = new SharedMemories(dir, arena);
    const doorbells = new Doorbells(dir);
    const life = randomName();
    const lifeline = new Lifeline(dir, life);
    const close = () => {
      memories.close();
      doorbells.close();
      lifeline.close();
    };
    try {
      const doorbell = doorbells.create();
      const request = { ports: [...ports], snapLength, lifeline: life, doorbell: doorbell.name };
      const { ring, names } = await one.ask((control) => control.capture(request, ANSWER));
      const mapping = memories.open(ring ?? {});
      const reader = new RingReader(arena, mapping.offset, mapping.size, names.length);
      const session = new CaptureSession(arena, names, reader, close);
      doorbell.listen(() => session.wake());
      return session;
    } catch (err) {
      close();
      throw err;
    }
  }

  /** Resolves when there may be frames, or `wake` was called. */
  async wait(): Promise<void> {
    if (this.reader.arm()) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  wake(): void {
    this.#wake();
  }

  /** The switch notices it, and frees the ring. */
  close(): void {
    this.#close();
  }
}
