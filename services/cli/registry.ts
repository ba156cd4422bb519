/**
 * The running labs of this user: one directory each below /dev/shm/l4lab-<uid> (L4LAB_RUN_BASE).
 *
 * A lab's directory appears complete (it is renamed into place) and holds, beside what run_dir.ts
 * names, `run.json` (who runs what) and `log`. It belongs to the launcher whose pid and start time it
 * records; when that process is gone the directory is a leftover and the next command cleans it.
 */
import { randomBytes } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { gatePath } from '#common/ipc/ipc';
import { makeRunDir } from '#common/shm/run_dir';
import { isSystemError, systemReason, UsageError } from './problem.ts';
import { processesOf, processStart } from './processes.ts';

/** What is known of a running lab; `run.json`. */
export interface LabRecord {
  /** Short name: eight hex digits. */
  readonly id: string;
  readonly dir: string;
  /** The launcher, and when it started in clock ticks since boot: together unique. */
  readonly pid: number;
  readonly startTicks: number;
  /** Script as the user named it, with its arguments. */
  readonly command: readonly string[];
  /** Milliseconds since the Unix epoch. */
  readonly started: number;
  /** Capabilities (JSON, proofs in hex) for `ps`. */
  readonly lab: { readonly gate: string; readonly proof: string };
  readonly control: { readonly gate: string; readonly proof: string };
}

/** Directories that are being made or removed are left alone for that long. */
const SETTLE_MS = 10_000;

/** The directory above all labs of this user; made if missing, refused if it is not ours alone. */
export function runBase(): string {
  const base = resolve(process.env.L4LAB_RUN_BASE || `/dev/shm/l4lab-${process.getuid?.() ?? 0}`);
  const refuse = (rule: string, value: string) => {
    throw new UsageError(
      `Cannot use ${base} for labs as ${rule}: ${value}; remove it or set L4LAB_RUN_BASE to another directory on a tmpfs`,
    );
  };
  try {
    // Not recursive: only the last part is ours to make.
    mkdirSync(base, { mode: 0o700 });
  } catch (err) {
    if (!isSystemError(err)) throw err;
    if (err.code !== 'EEXIST') {
      throw new UsageError(
        `Cannot use ${base} for labs as it cannot be made: ${systemReason(err)}; set L4LAB_RUN_BASE to another directory on a tmpfs`,
      );
    }
  }
  const stat = lstatSync(base);
  if (!stat.isDirectory())
    refuse('it must be a directory', stat.isSymbolicLink() ? 'it is a symbolic link' : 'it is a file');
  if (stat.uid !== process.getuid?.()) refuse('it must belong to you', `its owner is user ${stat.uid}`);
  if ((stat.mode & 0o077) !== 0) {
    refuse('it must be closed to others (mode 0700)', `its mode is 0${(stat.mode & 0o777).toString(8)}`);
  }
  return base;
}

/** Makes a lab's directory. `describe` gets the id and path and returns the rest of the record. */
export function createLab(
  describe: (id: string, dir: string) => Omit<LabRecord, 'id' | 'dir' | 'pid' | 'startTicks' | 'started'>,
): LabRecord {
  const base = runBase();
  const id = randomBytes(4).toString('hex');
  const dir = join(base, id);
  // Throws L4Error when its sockets' paths would be too long; better now than from every process.
  gatePath(dir, '0'.repeat(32));
  const scratch = mkdtempSync(join(base, '.new-'));
  try {
    makeRunDir(scratch);
    const record: LabRecord = {
      id,
      dir,
      pid: process.pid,
      startTicks: processStart(process.pid) ?? 0,
      started: Date.now(),
      ...describe(id, dir),
    };
    writeFileSync(join(scratch, 'run.json'), JSON.stringify(record), { mode: 0o600 });
    renameSync(scratch, dir);
    return record;
  } catch (err) {
    rmSync(scratch, { recursive: true, force: true });
    throw err;
  }
}

/** Removes a lab's directory and everything in it. */
export function removeLab(record: LabRecord): void {
  rmSync(record.dir, { recursive: true, force: true });
}

/** All labs whose launcher lives, oldest first. Leftovers of dead ones are cleaned on the way. */
export function runningLabs(onCleaned: (dir: string, killed: number) => void = () => {}): LabRecord[] {
  const base = runBase();
  const labs: LabRecord[] = [];
  for (const name of readdirSync(base)) {
    const dir = join(base, name);
    const record = readRecord(dir);
    if (record && processStart(record.pid) === record.startTicks) labs.push(record);
    else if (record || age(dir) > SETTLE_MS) onCleaned(dir, cleanLeftover(dir));
  }
  return labs.sort((a, b) => a.started - b.started);
}

function readRecord(dir: string): LabRecord | undefined {
  try {
    return JSON.parse(readFileSync(join(dir, 'run.json'), 'utf8')) as LabRecord;
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
