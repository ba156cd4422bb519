/**
 * The capability `rom`: a read-only namespace over directories, and the programs of l4lab itself.
 *
 * A name is looked for in the directories in order, then among the programs; a directory inside them is a namespace.
 * A directory with the boot modules of a real L4Re system may hold ELF files named `io` or `curl`: those cannot run
 * here, so the program of l4lab is taken.
 */
import { closeSync, type Dirent, openSync, readdirSync, readSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Capability, RIGHT_R } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { type Binding, bind } from '#common/ipc/service';
import { Dataspace, Namespace } from '../../proto/gen/services.js';

/** [ELF-64 object file format, e_ident]: the first bytes of every ELF file. */
const ELF_MAGIC = '\x7fELF';
const MAX_COPY_BYTES = 2 ** 20;

/** What a name in rom stands for. */
export type RomEntry = { readonly path: string } | { readonly builtin: string };

export class Rom {
  readonly #dirs: readonly string[];
  readonly #builtins: ReadonlySet<string>;
  readonly #exported = new Map<string, Capability>();

  /** Number of the object of a name, if it is to be a fixed one. */
  readonly #idOf: (purpose: string) => number | undefined;

  constructor(
    dirs: readonly string[],
    builtins: Iterable<string>,
    idOf: (purpose: string) => number | undefined = () => undefined,
  ) {
    this.#idOf = idOf;
    this.#dirs = dirs;
    this.#builtins = new Set(builtins);
  }

  /** The directories that are searched, for messages. */
  get searched(): string {
    return this.#dirs.join(', ') || 'no directory';
  }

  /** What a name stands for; undefined if nothing. Names leave the directories in no way but by links inside them. */
  lookup(name: string): RomEntry | undefined {
    if (!isPlain(name)) return undefined;
    const parts = name.split('/');
    for (const dir of this.#dirs) {
      const path = join(dir, ...parts);
      if (!statIfThere(path)?.isFile()) continue;
      if (this.#builtins.has(name) && isElf(path)) continue;
      return { path };
    }
    return this.#builtins.has(name) ? { builtin: name } : undefined;
  }

  /** Names of all files at the top of the directories and of all programs, sorted. */
  list(): string[] {
    const names = new Set(this.#builtins);
    for (const entry of this.#dirs.flatMap(entriesOf)) if (!entry.isDirectory()) names.add(entry.name);
    return [...names].sort();
  }

  /** Serves the namespace as an object of `gate`. */
  serve(gate: Gate): Capability {
    const namespace = this.#namespace(gate, '', () => this.list());
    return gate.export([namespace], { id: this.#idOf('rom') });
  }

  #namespace(gate: Gate, prefix: string, list: () => string[]): Binding {
    return bind(Namespace, {
      query: ({ name }) => ({ capability: this.#open(gate, prefix + name) }),
      register: () => {
        throw new L4Error(
          'EACCESS',
          'Cannot register a name in rom as it is read-only: use create_namespace',
        );
      },
      list: () => ({ names: list() }),
    });
  }

  /** What is in a directory of this name, sorted, directories with a '/' at the end; undefined when there is none. */
  #directory(name: string): string[] | undefined {
    const found = this.#dirs
      .map((dir) => join(dir, ...name.split('/')))
      .filter((path) => isPlain(name) && statIfThere(path)?.isDirectory());
    if (found.length === 0) return undefined;
    const names = found
      .flatMap(entriesOf)
      .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
    return [...new Set(names)].sort();
  }

  /** Names are exact: the one that was probably meant. */
  #hint(name: string): string {
    const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, '');
    const meant = this.list().find((known) => plain(known) === plain(name));
    if (meant !== undefined) return `; did you mean '${meant}'?`;
    return this.#dirs.length === 0 ? '' : '; l4lab run --rom DIR adds a directory';
  }

  #open(gate: Gate, name: string): Capability {
    const entry = this.lookup(name);
    if (!entry && this.#directory(name) !== undefined) return this.#openDirectory(gate, name);
    if (!entry) {
      throw new L4Error(
        'ENOENT',
        `Cannot find '${name}' in rom as there is no such file (searched: ${this.searched})${this.#hint(name)}`,
      );
    }
    const key = 'path' in entry ? entry.path : `:${entry.builtin}`;
    return this.#export(gate, key, () => bind(Dataspace, dataspaceOf(entry)));
  }

  /** A directory is a namespace over what it has at the time of each call. */
  #openDirectory(gate: Gate, name: string): Capability {
    const list = () => this.#directory(name) ?? [];
    return this.#export(gate, `${name}/`, () => this.#namespace(gate, `${name}/`, list));
  }

  #export(gate: Gate, key: string, make: () => Binding): Capability {
    let cap = this.#exported.get(key);
    if (!cap) {
      cap = gate.export([make()], { rights: RIGHT_R, id: this.#idOf(`rom ${key}`) });
      this.#exported.set(key, cap);
    }
    return cap;
  }
}

/** True for a relative path without `.` and `..`. */
function isPlain(name: string): boolean {
  return !name.split('/').some((part) => part === '' || part === '.' || part === '..' || part.includes('\0'));
}

function dataspaceOf(entry: RomEntry) {
  const path = 'path' in entry ? entry.path : '';
  const builtin = 'builtin' in entry ? entry.builtin : '';
  return {
    info: () => ({ ...(path ? statOf(path) : { size: 0 }), writable: false, path, builtin }),
    map: () => {
      throw new L4Error('ENOSYS', 'Cannot map a file of rom: read it with CopyOut');
    },
    copyOut: ({ offset, size }: { offset: number; size: number }) => ({
      data: path ? readAt(path, offset, Math.min(size, MAX_COPY_BYTES)) : new Uint8Array(0),
    }),
  };
}

/** Reasons for which there can be no file of a name, besides that there is none. */
const NOT_THERE = new Set(['ENOTDIR', 'ENAMETOOLONG', 'ELOOP']);

function statIfThere(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (err) {
    if (NOT_THERE.has((err as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw err;
  }
}

/** None when the directory has been taken away meanwhile, or cannot be read. */
function entriesOf(dir: string): Dirent[] {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch {
    return [];
  }
}

function statOf(path: string): { size: number; modified: number } {
  const stat = statIfThere(path);
  if (!stat) throw new L4Error('ENOENT', `Cannot read ${path} as it has been deleted`);
  return { size: stat.size, modified: Math.trunc(stat.mtimeMs) };
}

function readAt(path: string, offset: number, size: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(size);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    throw new L4Error('EACCESS', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return bytes.subarray(0, readSync(fd, bytes, 0, size, offset));
  } finally {
    closeSync(fd);
  }
}

function isElf(path: string): boolean {
  return Buffer.from(readAt(path, 0, ELF_MAGIC.length)).toString('latin1') === ELF_MAGIC;
}
