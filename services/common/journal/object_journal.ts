/**
 * The objects of a factory's gate, kept on the run directory's tmpfs so that a server that was killed makes the same objects
 * again: same number, name, MAC address and object id, and with that its clients' capabilities stay good.
 *
 *     <run dir>/g/<gate of svr>.ports/   <object, 8 hex digits>   message ObjectRecord (journal.proto)
 *                                        <mark>                   empty: what else the next life is to know
 *
 * A file for each object: a change costs the same however many there are, and a bad one costs its own object only. A file is
 * complete or not there. What is read is checked as what a stranger sends.
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { SharedMemoryRef } from '#common/shm/dataspace';
import { isRandomName } from '#common/shm/run_dir';
import { l4lab as m } from '../../../proto/gen/messages.js';

/** An object's arguments are a few hundred bytes, a holder 34 (and a gate takes 1024). What is larger is not kept: clients fill no file system. */
const MAX_BYTES = 64 * 1024;
const OBJECT = /^[0-9a-f]{8}$/;
const NEW = '.new';
/** No name at all. */
const NO_MARKS = /^$/;
const MAC_SIZE = 6;

/** What a client has asked for. */
export interface Wanted {
  /** Type and arguments of `create`. */
  readonly type: number;
  readonly arguments: readonly m.IFactoryArgument[];
  /** It stays without a holder. */
  readonly persistent?: boolean;
}

/** What the server has chosen for it. */
export interface Chosen {
  readonly number?: number;
  readonly name?: string;
  readonly mac?: Uint8Array | undefined;
  /** Its link was taken down. */
  readonly down?: boolean;
  /** Memory that is to be the object's again. */
  readonly page?: SharedMemoryRef;
}

/** An object of an earlier life of the server. */
export interface KeptRecord extends Wanted, Chosen {
  /** Its number behind the gate. */
  readonly object: number;
  readonly holders: readonly string[];
  readonly number: number;
  readonly name: string;
  readonly mac: Uint8Array | undefined;
}

/** Where one object is kept. */
export interface Memo {
  save(object: number, chosen: Chosen, holders: readonly string[]): void;
  remove(object: number): void;
}

/** Where the objects behind a gate are kept. */
export function journalPath(runDir: string, gate: string): string {
  return join(runDir, 'g', `${gate}.ports`);
}

export class ObjectJournal {
  /** True when an earlier life of the server has left it. */
  readonly resumed: boolean;
  readonly #dir: string;
  readonly #warn: (text: string) => void;
  readonly #marks: RegExp;
  #closed = false;

  /** Takes over the journal in `dir`, or makes it. `marks` matches the marks that its owner makes. */
  constructor(dir: string, warn: (text: string) => void, marks: RegExp = NO_MARKS) {
    this.#dir = dir;
    this.#warn = warn;
    this.#marks = marks;
    this.resumed = isDirectory(dir);
    if (this.resumed) return;
    rmSync(dir, { force: true });
    mkdirSync(dir, { mode: 0o700 });
  }

  /** True when an earlier life of the server has left that mark. */
  hasMark(mark: string): boolean {
    return existsSync(join(this.#dir, mark));
  }

  mark(mark: string): void {
    this.#write(mark, new Uint8Array(0));
  }

  /** The objects of earlier lives in the order of their numbers. Bad records are said, and gone. */
  load(): KeptRecord[] {
    const records: KeptRecord[] = [];
    for (const name of readdirSync(this.#dir)) {
      if (this.#marks.test(name)) continue;
      if (name.endsWith(NEW)) rmSync(join(this.#dir, name), { recursive: true, force: true });
      else {
        try {
          records.push(readRecord(this.#dir, name));
        } catch (err) {
          this.refuse(name, err);
        }
      }
    }
    return records.sort((a, b) => a.type - b.type || a.number - b.number || a.object - b.object);
  }

  /** Says that the object of that number or file cannot be made again, and forgets it. */
  refuse(object: number | string, err: unknown): void {
    const name = typeof object === 'number' ? nameOf(object) : object;
    const why = err instanceof Error ? err.message : String(err);
    this.#warn(`Cannot make port again from ${join(this.#dir, name)} as ${why}. It is ignored`);
    rmSync(join(this.#dir, name), { recursive: true, force: true });
  }

  /** For an object that was made for this request. */
  memo({ type, arguments: args, persistent = false }: Wanted): Memo {
    return {
      save: (object, { number = 0, name = '', mac, page, down = false }, holders) => {
        const record = {
          type,
          arguments: [...args],
          number,
          name,
          mac: mac ?? new Uint8Array(0),
          holders: holders.filter(isRandomName),
          persistent,
          down,
          ...(page ? { page: { ...page } } : {}),
        };
        this.#write(nameOf(object), m.ObjectRecord.encode(record).finish());
      },
      remove: (object) => rmSync(join(this.#dir, nameOf(object)), { force: true }),
    };
  }

  /** The server ends in order: nothing is left, nor written any more. */
  close(): void {
    this.#closed = true;
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** An object that cannot be kept works nevertheless. */
  #write(name: string, bytes: Uint8Array): void {
    if (this.#closed) return;
    const path = join(this.#dir, name);
    try {
      if (bytes.length > MAX_BYTES)
        throw new Error(`it would have ${bytes.length} bytes, more than ${MAX_BYTES}`);
      writeFileSync(`${path}${NEW}`, bytes, { mode: 0o600 });
      renameSync(`${path}${NEW}`, path);
    } catch (err) {
      rmSync(`${path}${NEW}`, { force: true });
      this.#warn(`Cannot keep ${path} for a restart: ${(err as Error).message}`);
    }
  }
}

function nameOf(object: number): string {
  return object.toString(16).padStart(8, '0');
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Throws when the file is no record of an object. What only the server can know is checked by it. */
function readRecord(dir: string, name: string): KeptRecord {
  if (!OBJECT.test(name) || Number.parseInt(name, 16) === 0)
    throw new Error('its name must be the number of an object, 8 hex digits');
  const record = m.ObjectRecord.decode(readSmallFile(join(dir, name)));
  const { type, number, mac, holders, persistent, page, down } = record;
  if (mac.length !== 0 && mac.length !== MAC_SIZE)
    throw new Error(`its MAC address must have ${MAC_SIZE} bytes: current value is ${mac.length}`);
  const isHeld = holders.length > 0 && holders.every(isRandomName);
  if (!isHeld && !(persistent && holders.length === 0))
    throw new Error(`its holders must be task ids, at least one: current value is '${holders.join(' ')}'`);
  return {
    object: Number.parseInt(name, 16),
    type,
    arguments: record.arguments,
    number,
    name: record.name,
    mac: mac.length === 0 ? undefined : Uint8Array.from(mac),
    holders,
    persistent,
    down,
    ...(page
      ? { page: { name: page.name ?? '', size: page.size ?? 0, writable: page.writable ?? false } }
      : {}),
  };
}

function readSmallFile(path: string): Buffer {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error('it must be a file');
    if (stat.size > MAX_BYTES)
      throw new Error(`it must have at most ${MAX_BYTES} bytes: it has ${stat.size}`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
