/**
 * The ports of the factory's gate, kept on the run directory's tmpfs so that a switch that was killed makes the same
 * ports again: same number, name, MAC address and object, and with that its clients' capabilities stay good.
 *
 *     <run dir>/g/<gate of svr>.ports/   <object, 8 hex digits>   message PortRecord (switch_journal.proto)
 *                                        nic<index>               empty: that NIC has worked
 *
 * A file for each port: a change costs the same however many there are, and a bad one costs its own port only. A file is
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
import { isRandomName } from '#common/shm/run_dir';
import { l4lab as m } from '../../proto/gen/messages.js';
import type { Log } from './log.ts';
import { MAC_SIZE } from './mac_address.ts';

/** A port's arguments are a few hundred bytes, a holder 34. */
const MAX_BYTES = 64 * 1024;
const OBJECT = /^[0-9a-f]{8}$/;
const NEW = '.new';
const NIC = /^nic\d+$/;

/** What the switch has chosen for a port. */
export interface KeptPort {
  readonly number: number;
  readonly name: string;
  readonly mac: Uint8Array | undefined;
}

/** A port of an earlier life of the switch. */
export interface KeptRecord extends KeptPort {
  /** Number of its object behind the gate. */
  readonly object: number;
  /** Of create(0, ...). */
  readonly arguments: readonly m.IFactoryArgument[];
  readonly holders: readonly string[];
}

/** Where one port is kept. */
export interface PortMemo {
  save(object: number, port: KeptPort, holders: readonly string[]): void;
  remove(object: number): void;
}

/** Where the ports behind a gate are kept. */
export function journalPath(runDir: string, gate: string): string {
  return join(runDir, 'g', `${gate}.ports`);
}

export class PortJournal {
  /** True when an earlier life of the switch has left it. */
  readonly resumed: boolean;
  readonly #dir: string;
  readonly #log: Log;
  #closed = false;

  /** Takes over the journal in `dir`, or makes it. */
  constructor(dir: string, log: Log) {
    this.#dir = dir;
    this.#log = log;
    this.resumed = isDirectory(dir);
    if (this.resumed) return;
    rmSync(dir, { force: true });
    mkdirSync(dir, { mode: 0o700 });
  }

  /** True when that NIC of the vbus has worked in an earlier life. */
  hadNic(index: number): boolean {
    return existsSync(join(this.#dir, `nic${index}`));
  }

  noteNic(index: number): void {
    this.#write(`nic${index}`, new Uint8Array(0));
  }

  /** The ports of earlier lives in the order of their numbers. Bad records are said, and gone. */
  load(): KeptRecord[] {
    const records: KeptRecord[] = [];
    for (const name of readdirSync(this.#dir)) {
      if (NIC.test(name)) continue;
      if (name.endsWith(NEW)) rmSync(join(this.#dir, name), { recursive: true, force: true });
      else {
        try {
          records.push(readRecord(this.#dir, name));
        } catch (err) {
          this.refuse(name, err);
        }
      }
    }
    return records.sort((a, b) => a.number - b.number || a.object - b.object);
  }

  /** Says that the port of that object or file cannot be made again, and forgets it. */
  refuse(port: number | string, err: unknown): void {
    const name = typeof port === 'number' ? nameOf(port) : port;
    const why = err instanceof Error ? err.message : String(err);
    this.#log.warn('core', `Cannot make port again from ${join(this.#dir, name)} as ${why}. It is ignored`);
    rmSync(join(this.#dir, name), { recursive: true, force: true });
  }

  /** For a port that was made with these arguments. */
  memo(args: readonly m.IFactoryArgument[]): PortMemo {
    return {
      save: (object, { number, name, mac }, holders) => {
        const record = {
          arguments: [...args],
          number,
          name,
          mac: mac ?? new Uint8Array(0),
          holders: [...holders],
        };
        this.#write(nameOf(object), m.PortRecord.encode(record).finish());
      },
      remove: (object) => rmSync(join(this.#dir, nameOf(object)), { force: true }),
    };
  }

  /** The switch ends in order: nothing is left. */
  close(): void {
    this.#closed = true;
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** A port that cannot be kept works nevertheless. */
  #write(name: string, bytes: Uint8Array): void {
    if (this.#closed) return;
    const path = join(this.#dir, name);
    try {
      writeFileSync(`${path}${NEW}`, bytes, { mode: 0o600 });
      renameSync(`${path}${NEW}`, path);
    } catch (err) {
      rmSync(`${path}${NEW}`, { force: true });
      this.#log.warn('core', `Cannot keep ${path} for a restart of the switch: ${(err as Error).message}`);
    }
  }
}

function nameOf(object: number): string {
  return object.toString(16).padStart(8, '0');
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Throws when the file is no record of a port. What only the switch can know is checked by it. */
function readRecord(dir: string, name: string): KeptRecord {
  if (!OBJECT.test(name) || Number.parseInt(name, 16) === 0)
    throw new Error('its name must be the number of an object, 8 hex digits');
  const record = m.PortRecord.decode(readSmallFile(join(dir, name)));
  const { number, mac, holders } = record;
  if (mac.length !== 0 && mac.length !== MAC_SIZE)
    throw new Error(`its MAC address must have ${MAC_SIZE} bytes: current value is ${mac.length}`);
  if (holders.length === 0 || !holders.every(isRandomName))
    throw new Error(`its holders must be task ids, at least one: current value is '${holders.join(' ')}'`);
  return {
    object: Number.parseInt(name, 16),
    arguments: record.arguments,
    number,
    name: record.name,
    mac: mac.length === 0 ? undefined : Uint8Array.from(mac),
    holders,
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
