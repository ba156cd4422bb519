/**
 * What is served: files and directories below a path of the task's file system, e.g. `rom` or `rom/site`, by
 * capabilities. Programs in rom have no bytes and are not there.
 */
import type { Capability } from '#common/ipc/capability';
import { L4_ERRNO, L4Error } from '#common/ipc/errors';
import type { TaskEnv } from '#common/task/env';
import { Dataspace, Namespace } from '../../proto/gen/services.js';
import type { ListedName } from './listing.ts';

/** Bytes of one read: the server of the files answers others in between. */
const CHUNK_BYTES = 256 * 1024;
/** Names of one listing. */
const MAX_LISTED = 1000;

export interface SiteFile {
  readonly kind: 'file';
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970; 0 when unknown. */
  readonly modified: number;
  /** Bytes `start` to `end` - 1 in pieces. Throws L4Error EIO when the file has become shorter. */
  read(start: number, end: number): AsyncIterable<Uint8Array>;
}

export interface SiteDirectory {
  readonly kind: 'directory';
  list(): Promise<ListedName[]>;
}

/** Files and directories by their names from the root; undefined for what is not there. */
export interface Site {
  find(names: readonly string[]): Promise<SiteFile | SiteDirectory | undefined>;
}

export class CapabilitySite implements Site {
  readonly #env: Pick<TaskEnv, 'files' | 'ipc'>;
  readonly #root: string;

  /** `root` is a path whose first part names a capability. */
  constructor(env: Pick<TaskEnv, 'files' | 'ipc'>, root: string) {
    this.#env = env;
    this.#root = root;
  }

  async find(names: readonly string[]): Promise<SiteFile | SiteDirectory | undefined> {
    const { files, ipc } = this.#env;
    const cap = await ifThere(files.resolve([this.#root, ...names].join('/')));
    if (cap === undefined) return undefined;
    const info = await ifThere(ipc.client(Dataspace, cap).info());
    if (info === undefined) {
      const inside = await ifThere(ipc.client(Namespace, cap).list());
      return inside && { kind: 'directory', list: () => this.#look(names, inside.names) };
    }
    if (info.builtin !== '') return undefined;
    const { size, modified } = info;
    return {
      kind: 'file',
      name: names.at(-1) ?? '',
      size,
      modified,
      read: (start, end) => this.#read(cap, start, end),
    };
  }

  async #look(names: readonly string[], inside: readonly string[]): Promise<ListedName[]> {
    const listed: ListedName[] = [];
    for (const name of inside.slice(0, MAX_LISTED)) {
      const found = name.endsWith('/') ? undefined : await this.find([...names, name]);
      if (found?.kind === 'file') listed.push({ name, size: found.size });
      else if (found?.kind === 'directory') listed.push({ name: `${name}/`, size: undefined });
      else if (name.endsWith('/')) listed.push({ name, size: undefined });
    }
    return listed;
  }

  async *#read(cap: Capability, start: number, end: number): AsyncGenerator<Uint8Array> {
    const file = this.#env.ipc.client(Dataspace, cap);
    for (let offset = start; offset < end; ) {
      const { data } = await file.copyOut({ offset, size: Math.min(CHUNK_BYTES, end - offset) });
      if (data.length === 0) {
        throw new L4Error('EIO', `Cannot read byte ${offset} of a file as it has become shorter`);
      }
      offset += data.length;
      yield data;
    }
  }
}

/** No such name, or another kind of object: undefined. */
async function ifThere<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (err) {
    if (err instanceof L4Error && (err.errno === L4_ERRNO.ENOENT || err.errno === L4_ERRNO.EBADPROTO))
      return undefined;
    throw err;
  }
}
