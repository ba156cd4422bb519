/**
 * What a script can read: files through ned's named capabilities, and ned's standard input.
 */
import type { Readable } from 'node:stream';
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import { Files } from '#common/task/files';
import type { Rom } from './rom.ts';

export class ScriptFiles {
  readonly #files: Files;
  readonly #rom: Rom;
  readonly #openInput: () => Readable;
  #input: AsyncIterator<Uint8Array> | undefined;
  #buffered = Buffer.alloc(0);
  #ended = false;

  constructor(ipc: Ipc, caps: ReadonlyMap<string, Capability>, rom: Rom, stdin: () => Readable) {
    this.#files = new Files(ipc, caps);
    this.#rom = rom;
    this.#openInput = stdin;
  }

  /** A file, e.g. `rom/lib.lua`. Throws L4Error ENOENT. */
  read(path: string): Promise<Uint8Array> {
    return this.#files.read(path);
  }

  /** The script; its errors say where it was looked for. */
  async readScript(path: string): Promise<Uint8Array> {
    try {
      return await this.#files.read(path);
    } catch (cause) {
      if (!(cause instanceof L4Error) || cause.code !== 'L4_ENOENT') throw cause;
      const hint = path.startsWith('rom/')
        ? ''
        : `; names of files begin with a capability, e.g. 'rom/${path}'`;
      throw new L4Error(
        'ENOENT',
        `Cannot load script '${path}' as no such file is in rom (searched: ${this.#rom.searched})${hint}`,
        { cause },
      );
    }
  }

  /**
   * Reads standard input: `a` everything, `l` a line with its line feed, or a number of bytes; 0 bytes are there unless
   * it has ended. Undefined at the end.
   */
  async readStdin(format: string | number): Promise<Uint8Array | undefined> {
    if (format === 0)
      return (await this.#readUntil(() => this.#buffered.length)) ? Buffer.alloc(0) : undefined;
    const size = await this.#readUntil(() => {
      if (format === 'a') return 0;
      if (format === 'l') return this.#buffered.indexOf(10) + 1;
      return this.#buffered.length >= Number(format) ? Number(format) : 0;
    });
    if (size === 0 && format !== 'a') return undefined;
    const taken = this.#buffered.subarray(0, size);
    this.#buffered = this.#buffered.subarray(size);
    return taken;
  }

  /** Reads on until `enough` says how many bytes are; at the end of the input all that are left. */
  async #readUntil(enough: () => number): Promise<number> {
    this.#input ??= this.#openInput()[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    while (enough() === 0 && !this.#ended) {
      const { value, done } = await this.#input.next();
      if (done) this.#ended = true;
      else this.#buffered = Buffer.concat([this.#buffered, Buffer.from(value)]);
    }
    return enough() || this.#buffered.length;
  }
}
