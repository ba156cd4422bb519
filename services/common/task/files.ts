/**
 * A task's files: the first part of a path names a capability, the rest is asked of it as a namespace.
 * `/etc/resolv.conf` is `resolv.conf` in the capability `etc`; the current directory is the root.
 */

import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import { Dataspace, Namespace } from '../../../proto/gen/services.js';

const CHUNK_BYTES = 2 ** 20;
/** No file of rom is larger; bounds what a hostile server can make us collect. */
const MAX_FILE_BYTES = 256 * 2 ** 20;

export interface FileInfo {
  readonly size: number;
  /** Where the file is on this machine, if it is a file. */
  readonly path: string;
  /** Name of the built-in program, if it is one. */
  readonly builtin: string;
}

export class Files {
  readonly #ipc: Ipc;
  readonly #caps: ReadonlyMap<string, Capability>;

  constructor(ipc: Ipc, caps: ReadonlyMap<string, Capability>) {
    this.#ipc = ipc;
    this.#caps = caps;
  }

  /** The whole file. Throws L4Error ENOENT (no such capability or name), EACCESS (not readable). */
  async read(path: string): Promise<Uint8Array> {
    const file = this.#ipc.client(Dataspace, await this.resolve(path));
    const { size } = await file.info();
    if (size > MAX_FILE_BYTES)
      throw new L4Error(
        'ENOMEM',
        `Cannot read ${path} as files have at most ${MAX_FILE_BYTES} bytes: it has ${size}`,
      );
    const chunks: Uint8Array[] = [];
    for (let offset = 0; offset < size; ) {
      const { data } = await file.copyOut({ offset, size: CHUNK_BYTES });
      if (data.length === 0) break;
      chunks.push(data);
      offset += data.length;
    }
    return Buffer.concat(chunks);
  }

  /** What a path names. Throws L4Error ENOENT. */
  async info(path: string): Promise<FileInfo> {
    return this.#ipc.client(Dataspace, await this.resolve(path)).info();
  }

  /** The capability that a path names. Throws L4Error ENOENT. */
  async resolve(path: string): Promise<Capability> {
    const [root = '', ...rest] = path.split('/').filter((part) => part !== '' && part !== '.');
    const cap = this.#caps.get(root);
    if (!cap) {
      const known = [...this.#caps.keys()].join(', ') || 'none';
      throw new L4Error(
        'ENOENT',
        `Cannot open ${path} as this task has no capability named "${root}": it has ${known}`,
      );
    }
    if (rest.length === 0) return cap;
    const { capability } = await this.#ipc.client(Namespace, cap).query({ name: rest.join('/') });
    if (!capability) throw new L4Error('ENOENT', `Cannot open ${path} as its namespace gave nothing`);
    return capability as Capability;
  }
}
