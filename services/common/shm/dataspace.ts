/**
 * Dataspaces as shared-memory files `<run dir>/m/<random name>`, mapped into the process's arena.
 *
 * The creator sizes the file and allocates all its pages at once: a full /dev/shm is an error
 * here and never a SIGBUS later. What a peer's file lacks is zeros (`bus_guard.ts`): it can truncate it at any time.
 */
import { closeSync, constants, fstatSync, openSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { L4Error } from '#common/ipc/errors';
import { type Arena, PAGE_SIZE, pageRound } from './arena.ts';
import * as libc from './libc.ts';
import { isRandomName, randomName } from './run_dir.ts';
import { outOfSpace } from './space.ts';
import { bindToProcess } from './sweep.ts';

/** The message SharedMemory of ipc.proto. */
export interface SharedMemoryRef {
  readonly name: string;
  readonly size: number;
  readonly writable: boolean;
}

export interface Mapping {
  /** Where it lies in the arena, in bytes. */
  readonly offset: number;
  readonly size: number;
  /** Somebody has truncated the file, or it had a hole that could not be filled: it is private zeros since then. */
  readonly lost: boolean;
  /** What to send to a peer that is to map it too. */
  readonly ref: SharedMemoryRef;
  /** Unmaps; the creator's file disappears as well (peers keep what they mapped). Idempotent. */
  close(): void;
  /** Unmaps; the file stays for whoever is to adopt it. */
  leave(): void;
}

export class SharedMemories {
  readonly #dir: string;
  readonly #arena: Arena;
  readonly #open = new Set<Mapping>();

  constructor(runDir: string, arena: Arena) {
    this.#dir = join(runDir, 'm');
    this.#arena = arena;
  }

  /**
   * Makes a dataspace of at least `size` bytes, zeroed. Throws L4Error ENOMEM when /dev/shm is full.
   * With `writableByOthers` false peers are told to map it read-only. It goes with this process, however that
   * ends (sweep.ts), unless it `outlivesUs`.
   */
  create(size: number, writableByOthers = true, outlivesUs = false): Mapping {
    const bytes = pageRound(size);
    const name = randomName();
    const path = join(this.#dir, name);
    const fd = this.#make(path, bytes);
    try {
      libc.fallocate(fd, bytes);
      if (!outlivesUs) bindToProcess(fd);
      const offset = this.#arena.mapFile(fd, bytes, true);
      return this.#mapping(offset, bytes, { name, size: bytes, writable: writableByOthers }, { path, fd });
    } catch (err) {
      closeSync(fd);
      unlinkSync(path);
      throw outOfSpace(err, `a dataspace of ${bytes} bytes`, this.#dir);
    }
  }

  /** Maps a dataspace that a peer made. Throws L4Error EINVAL when name, size or file are not as they must be. */
  open(ref: { name?: string | null; size?: number | null; writable?: boolean | null }): Mapping {
    const known = {
      name: ref.name ?? '',
      size: ref.size ?? 0,
      writable: ref.writable ?? false,
    };
    const fd = this.#openFile(known, known.writable);
    try {
      return this.#mapping(this.#arena.mapFile(fd, known.size, known.writable), known.size, known, undefined);
    } finally {
      closeSync(fd);
    }
  }

  /**
   * Takes over what an earlier life of this task has made to outlive itself: it is ours as if we had made it. Throws as
   * `open`. Peers are told what `ref` says of writing.
   */
  adopt(ref: SharedMemoryRef): Mapping {
    const fd = this.#openFile(ref, true);
    try {
      const offset = this.#arena.mapFile(fd, ref.size, true);
      return this.#mapping(offset, ref.size, ref, { path: join(this.#dir, ref.name), fd });
    } catch (err) {
      closeSync(fd);
      throw err;
    }
  }

  /** Closes whatever is still open; at the end of the process. */
  close(): void {
    for (const mapping of [...this.#open]) mapping.close();
  }

  /** A file needs a page even when it is empty. */
  #make(path: string, bytes: number): number {
    try {
      return openSync(path, 'wx+', 0o600);
    } catch (err) {
      throw outOfSpace(err, `a dataspace of ${bytes} bytes`, this.#dir);
    }
  }

  /** Opens a file that somebody else has made. Throws L4Error EINVAL when it is not what `name` and `size` say. */
  #openFile({ name, size }: Pick<SharedMemoryRef, 'name' | 'size'>, writable: boolean): number {
    if (!isRandomName(name)) {
      throw new L4Error(
        'EINVAL',
        `Cannot map dataspace as its name must be 32 hex digits: current value is "${name}"`,
      );
    }
    if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE_SIZE !== 0) {
      throw new L4Error(
        'EINVAL',
        `Cannot map dataspace ${name} as its size must be a multiple of 4096: current value is ${size}`,
      );
    }
    let fd: number;
    try {
      // A peer may have put anything there: a FIFO must not keep us waiting, nor a link lead to files of ours.
      const mode = writable ? constants.O_RDWR : constants.O_RDONLY;
      fd = openSync(join(this.#dir, name), mode | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    } catch (cause) {
      throw new L4Error('EINVAL', `Cannot map dataspace ${name} as there is none of that name in this lab`, {
        cause,
      });
    }
    const stat = fstatSync(fd);
    if (stat.isFile() && stat.size >= size) return fd;
    closeSync(fd);
    const why = stat.isFile() ? `${size} bytes were announced: it has ${stat.size}` : 'it is not a file';
    throw new L4Error('EINVAL', `Cannot map dataspace ${name} as ${why}`);
  }

  /** `own`: the file, if it is ours; it stays open for its lock. */
  #mapping(
    offset: number,
    size: number,
    ref: SharedMemoryRef,
    own: { readonly path: string; readonly fd: number } | undefined,
  ): Mapping {
    const arena = this.#arena;
    const mapping: Mapping = {
      offset,
      size,
      get lost() {
        return arena.isLost(offset);
      },
      ref,
      close: () => {
        if (!this.#open.has(mapping)) return;
        mapping.leave();
        if (own) unlinkQuietly(own.path);
      },
      leave: () => {
        if (!this.#open.delete(mapping)) return;
        this.#arena.unmap(offset, size);
        if (own) closeSync(own.fd);
      },
    };
    this.#open.add(mapping);
    return mapping;
  }
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // The launcher has removed the whole run directory already.
  }
}
