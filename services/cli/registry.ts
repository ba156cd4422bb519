/**
 * The running labs of this user: one directory each below /dev/shm/l4lab-<uid> (L4LAB_RUN_BASE).
 *
 * A lab's directory appears complete (it is renamed into place) and holds, beside what run_dir.ts
 * names, `run.json` (who runs what) and `log`. It belongs to the launcher that holds its file `lock`; when
 * nobody does, the directory is a leftover and the next command cleans it. A lock means the same in every
 * container that shares the directory, a pid does not.
 */
import { randomBytes } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { gatePath } from '#common/ipc/ipc';
import { FileLock } from '#common/shm/lock';
import { makeRunDir, RUN_DIR_PARTS } from '#common/shm/run_dir';
import { isSystemError, systemReason, UsageError } from './problem.ts';
import { processesOf, processStart } from './processes.ts';

/** What is known of a running lab; `run.json`. */
export interface LabRecord {
  /** Short name: eight hex digits. */
  readonly id: string;
  readonly dir: string;
  /** The launcher, and when it started in clock ticks since boot: together unique, where it runs. */
  readonly pid: number;
  readonly startTicks: number;
  /** Script as the user named it, with its arguments. */
  readonly command: readonly string[];
  /** Milliseconds since the Unix epoch. */
  readonly started: number;
  /** Capabilities (JSON, proofs in hex) for `ps`. */
  readonly lab: { readonly gate: string; readonly proof: string };
  readonly control: { readonly gate: string; readonly proof: string };
  /** The tasks are started by others (`l4lab broker`). */
  readonly external?: boolean;
  /** The broker has made the secret in the directory. */
  readonly madeSecret?: boolean;
}

/** What the launcher fills in itself. */
type Given = Omit<LabRecord, 'id' | 'dir' | 'pid' | 'startTicks' | 'started'>;

/** A lab's directory, ours until `release`. */
export interface OwnedLab {
  readonly record: LabRecord;
  /** Removes the directory, or leaves it to the components that are still running. */
  release(): void;
  /** Lets go of the directory as the end of the process does. */
  abandon(): void;
}

const RECORD = 'run.json';
const LOCK = 'lock';
/** Held (shared) by every component: its lab's directory is in use. */
const COMPONENTS = 'components';
/** The secret of a broker that was given none. */
export const SECRET = 'secret';
const LOOKS = 20;
const LOOK_MS = 10;

/** Directories that are being made or removed are left alone for that long. */
const SETTLE_MS = 10_000;

/** The directory above all labs of this user; made if missing, refused if it is not ours alone. */
export function runBase(): string {
  const base = runBasePath();
  requirePrivate(base);
  return base;
}

function runBasePath(): string {
  return resolve(process.env.L4LAB_RUN_BASE || `/dev/shm/l4lab-${process.getuid?.() ?? 0}`);
}

/** Where `l4lab broker` and its components meet, unless they are told otherwise. */
export function brokerDir(given: string | undefined): string {
  const named = given ?? process.env.L4LAB_BROKER_DIR;
  if (named === undefined) return join(runBase(), 'broker');
  // In the run base, which may have to be made first.
  if (dirname(resolve(named)) === runBasePath()) runBase();
  return named;
}

/** Makes the directory if it is missing. Throws UsageError when it is not ours alone. */
export function requirePrivate(dir: string): void {
  // Whoever has chosen it has to choose another.
  const mend = `${dir === runBasePath() ? 'set L4LAB_RUN_BASE to' : 'choose with --run-dir or L4LAB_BROKER_DIR'} another directory on a tmpfs`;
  const refuse = (rule: string, value: string) => {
    throw new UsageError(`Cannot use ${dir} for labs as ${rule}: ${value}; remove it or ${mend}`);
  };
  try {
    // Not recursive: only the last part is ours to make.
    mkdirSync(dir, { mode: 0o700 });
  } catch (err) {
    if (!isSystemError(err)) throw err;
    if (err.code !== 'EEXIST') {
      const readOnly = err.code === 'EROFS' ? 'give the container a tmpfs (--tmpfs /run/l4lab), or ' : '';
      throw new UsageError(
        `Cannot use ${dir} for labs as it cannot be made: ${systemReason(err)}; ${readOnly}${mend}`,
      );
    }
  }
  const stat = lstatSync(dir);
  if (!stat.isDirectory())
    refuse('it must be a directory', stat.isSymbolicLink() ? 'it is a symbolic link' : 'it is a file');
  if (stat.uid !== process.getuid?.()) refuse('it must belong to you', `its owner is user ${stat.uid}`);
  if ((stat.mode & 0o077) !== 0) {
    refuse('it must be closed to others (mode 0700)', `its mode is 0${(stat.mode & 0o777).toString(8)}`);
  }
}

/** Makes a lab's directory. */
export function createLab(given: Given): OwnedLab {
  const base = runBase();
  const id = randomBytes(4).toString('hex');
  const dir = join(base, id);
  // Throws L4Error when its sockets' paths would be too long; better now than from every process.
  gatePath(dir, '0'.repeat(32));
  const scratch = mkdtempSync(join(base, '.new-'));
  try {
    makeRunDir(scratch);
    const record = recordOf(id, dir, given);
    writeFileSync(join(scratch, RECORD), JSON.stringify(record), { mode: 0o600 });
    const lock = FileLock.tryTake(join(scratch, LOCK));
    renameSync(scratch, dir);
    return {
      record,
      release: () => {
        rmSync(dir, { recursive: true, force: true });
        lock?.release();
      },
      abandon: () => lock?.release(),
    };
  } catch (err) {
    rmSync(scratch, { recursive: true, force: true });
    throw err;
  }
}

/** Makes or takes over the directory of an external lab. Throws UsageError when a broker runs in it. */
export function claimLab(dir: string, given: Given): OwnedLab {
  const path = resolve(dir);
  gatePath(path, '0'.repeat(32));
  requirePrivate(path);
  makeRunDir(path);
  const lock = takePatiently(join(path, LOCK), false, LOOKS);
  if (!lock) {
    const other = readRecord(path);
    const who = other ? ` (${other.command.join(' ')}, process ${other.pid})` : '';
    throw new UsageError(
      `Cannot start a broker in ${path} as one is running there${who}: stop it, or choose another directory with --run-dir`,
    );
  }
  const record = recordOf(basename(path), path, given);
  writeFileSync(join(path, `${RECORD}.new`), JSON.stringify(record), { mode: 0o600 });
  renameSync(join(path, `${RECORD}.new`), join(path, RECORD));
  return {
    record,
    release: () => {
      lock.release();
      cleanExternal(path);
    },
    abandon: () => lock.release(),
  };
}

/** True when a broker runs in that directory whose secret was given to it: it does not lie there for others. */
export function brokerKeepsSecret(dir: string): boolean {
  return FileLock.isHeld(join(dir, LOCK)) && readRecord(dir)?.madeSecret === false;
}

/** A component's claim on its lab's directory; the last one that lets go of it removes the directory. */
export function useLab(dir: string): { release(): void } {
  const path = resolve(dir);
  requirePrivate(path);
  makeRunDir(path);
  const lock = takePatiently(join(path, COMPONENTS), true, LOOKS);
  return {
    release: () => {
      lock?.release();
      cleanExternal(path);
    },
  };
}

/** Takes a lock that others may hold for as long as it takes to look whether it is held. */
function takePatiently(path: string, shared: boolean, looks: number): FileLock | undefined {
  const lock = FileLock.tryTake(path, { shared });
  if (lock || looks === 0) return lock;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_MS);
  return takePatiently(path, shared, looks - 1);
}

/** Removes what is ours in the directory of an external lab when neither broker nor component use it. */
function cleanExternal(dir: string): void {
  if (isUsed(dir)) return;
  const secret = readRecord(dir)?.madeSecret ? [SECRET, `${SECRET}.new`] : [];
  const ours = [...RUN_DIR_PARTS, 'log', 'log.1', LOCK, COMPONENTS, ...secret, RECORD];
  for (const name of ours) rmSync(join(dir, name), { recursive: true, force: true });
  try {
    rmdirSync(dir);
  } catch {
    // It is where a file system is mounted, or somebody has just come back.
  }
}

function isUsed(dir: string): boolean {
  return FileLock.isHeld(join(dir, LOCK)) || FileLock.isHeld(join(dir, COMPONENTS));
}

function recordOf(id: string, dir: string, given: Given): LabRecord {
  const startTicks = processStart(process.pid) ?? 0;
  return { id, dir, pid: process.pid, startTicks, started: Date.now(), ...given };
}

/** Removes a lab's directory and everything in it. */
export function removeLab(record: LabRecord): void {
  rmSync(record.dir, { recursive: true, force: true });
}

/** All labs that are in use, oldest first. Leftovers of dead ones are cleaned on the way. */
export function runningLabs(onCleaned: (dir: string, killed: number) => void = () => {}): LabRecord[] {
  const base = runBase();
  const labs: LabRecord[] = [];
  for (const name of readdirSync(base)) {
    const dir = join(base, name);
    const record = readRecord(dir);
    if (isUsed(dir)) {
      if (record) labs.push(record);
    } else if (record || age(dir) > SETTLE_MS) onCleaned(dir, cleanLeftover(dir));
  }
  return labs.sort((a, b) => a.started - b.started);
}

/** The lab in that directory, wherever it is; undefined: none is running there. */
export function labIn(dir: string): LabRecord | undefined {
  const path = resolve(dir);
  const record = isUsed(path) ? readRecord(path) : undefined;
  return record && { ...record, dir: path };
}

function readRecord(dir: string): LabRecord | undefined {
  try {
    return JSON.parse(readFileSync(join(dir, RECORD), 'utf8')) as LabRecord;
  } catch {
    return undefined;
  }
}

function age(dir: string): number {
  return Date.now() - (statSync(dir, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
}

/** Ends what still runs of a dead lab (the kernel should have done so) and removes its files. */
function cleanLeftover(dir: string): number {
  const left = processesOf(dir);
  for (const pid of left) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
  rmSync(dir, { recursive: true, force: true });
  return left.length;
}
