/**
 * The running labs of this user: one directory each below the run base.
 *
 * A lab's directory appears complete (it is renamed into place) and holds, beside what run_dir.ts
 * names, `run.json` (who runs what) and `log`. It belongs to the launcher that claims it (claims.ts); when
 * nobody does, the directory is a leftover and the next command cleans it.
 */
import { randomBytes } from 'node:crypto';
import {
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
import { RUN_DIR_PARTS } from '#common/shm/run_dir';
import { CLAIMS, hasOwner, ifUnused, isUsed, ownDir, shareDir } from './claims.ts';
import type { PublishedGate } from './lab_calls.ts';
import { UsageError } from './problem.ts';
import { endProcess, processesOf, processStart } from './processes.ts';
import { brokerDir, runBase } from './run_base.ts';

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
  /** Capabilities for commands. */
  readonly lab: PublishedGate;
  readonly control: PublishedGate;
  /** The tasks are started by others (`l4lab broker`). */
  readonly external?: boolean;
  /** The broker has made the secret in the directory. */
  readonly madeSecret?: boolean;
}

/** What the launcher fills in itself. */
type Given = Omit<LabRecord, 'id' | 'dir' | 'pid' | 'startTicks' | 'started'>;

/** The directory of an external lab, kept for its broker. */
export interface ClaimedDir {
  readonly dir: string;
  /** Tells everybody who runs what in there. */
  publish(given: Given): OwnedLab;
  /** As that of the lab, for a broker that could not be started. */
  release(): void;
}

/** A lab's directory, ours until `release`. */
export interface OwnedLab {
  readonly record: LabRecord;
  /** Removes the directory, or leaves it to the components that are still running. */
  release(): void;
  /** Lets go of the directory as the end of the process does. */
  abandon(): void;
}

const RECORD = 'run.json';
/** The secret of a broker that was given none. */
export const SECRET = 'secret';

/** Directories that are being made or removed are left alone for that long. */
const SETTLE_MS = 10_000;

/** Makes a lab's directory. */
export function createLab(given: Given): OwnedLab {
  const base = runBase();
  const id = randomBytes(4).toString('hex');
  const dir = join(base, id);
  // Throws L4Error when its sockets' paths would be too long; better now than from every process.
  gatePath(dir, '0'.repeat(32));
  const scratch = mkdtempSync(join(base, '.new-'));
  try {
    // Before there is a record: a lab that nobody claims is a leftover.
    const claim = ownDir(scratch);
    const record = recordOf(id, dir, given);
    writeFileSync(join(scratch, RECORD), JSON.stringify(record), { mode: 0o600 });
    renameSync(scratch, dir);
    return {
      record,
      release: () => {
        rmSync(dir, { recursive: true, force: true });
        claim?.release();
      },
      abandon: () => claim?.release(),
    };
  } catch (err) {
    rmSync(scratch, { recursive: true, force: true });
    throw err;
  }
}

/** Makes or takes over the directory of an external lab. Throws UsageError when a broker runs in it. */
export function claimLab(dir: string): ClaimedDir {
  const path = resolve(dir);
  gatePath(path, '0'.repeat(32));
  const claim = ownDir(path);
  if (!claim) {
    const other = readRecord(path);
    const who = other ? ` (${other.command.join(' ')}, process ${other.pid})` : '';
    throw new UsageError(
      `Cannot start a broker in ${path} as one is running there${who}: stop it, or choose another directory with --run-dir`,
    );
  }
  // Of a broker that was killed.
  rmSync(join(path, RECORD), { force: true });
  let released = false;
  const release = () => {
    if (released) return;
    released = true;
    claim.release();
    cleanExternal(path);
  };
  return {
    dir: path,
    release,
    publish: (given) => {
      const record = recordOf(basename(path), path, given);
      try {
        writeFileSync(join(path, `${RECORD}.new`), JSON.stringify(record), { mode: 0o600 });
        renameSync(join(path, `${RECORD}.new`), join(path, RECORD));
      } catch (err) {
        release();
        throw err;
      }
      return { record, release, abandon: () => claim.release() };
    },
  };
}

/** True when a broker runs in that directory whose secret was given to it: it does not lie there for others. */
export function brokerKeepsSecret(dir: string): boolean {
  return hasOwner(dir) && readRecord(dir)?.madeSecret === false;
}

/** Why nobody can ask the lab: its broker has ended before its components. Undefined: it has not. */
export function absenceOf({ dir, external }: LabRecord): string | undefined {
  if (!external || hasOwner(dir)) return undefined;
  return 'its broker has ended; its components go on, and l4lab broker, started there again, finds them';
}

/** A component's claim on its lab's directory; the last one that lets go of it removes the directory. */
export function useLab(dir: string): { release(): void } {
  const path = resolve(dir);
  const claim = shareDir(path);
  return {
    release: () => {
      claim.release();
      cleanExternal(path);
    },
  };
}

/** Removes what is ours in the directory of an external lab when neither broker nor component use it. */
function cleanExternal(dir: string): void {
  ifUnused(dir, () => {
    const secret = readRecord(dir)?.madeSecret ? [SECRET, `${SECRET}.new`] : [];
    const ours = [...RUN_DIR_PARTS, 'log', 'log.1', ...secret, RECORD, `${RECORD}.new`, ...CLAIMS];
    for (const name of ours) rmSync(join(dir, name), { recursive: true, force: true });
    try {
      rmdirSync(dir);
    } catch {
      // It is where a file system is mounted, or somebody has just come back.
    }
  });
}

function recordOf(id: string, dir: string, given: Given): LabRecord {
  const startTicks = processStart(process.pid) ?? 0;
  return { id, dir, pid: process.pid, startTicks, started: Date.now(), ...given };
}

/** Removes a lab's directory and everything in it. */
export function removeLab(record: LabRecord): void {
  rmSync(record.dir, { recursive: true, force: true });
}

/**
 * All labs that are in use, in the run base and in L4LAB_BROKER_DIR, oldest first (those of one millisecond by their ids).
 * Leftovers of dead ones are cleaned on the way.
 */
export function runningLabs(onCleaned: (dir: string, killed: number) => void = () => {}): LabRecord[] {
  const base = runBase();
  const labs: LabRecord[] = [];
  for (const name of readdirSync(base)) {
    const dir = join(base, name);
    const record = readRecord(dir);
    if (isUsed(dir)) {
      // Not one that has yet to come to its place.
      if (record?.id === name) labs.push(record);
    } else if (record || age(dir) > SETTLE_MS) {
      const killed = cleanLeftover(dir);
      if (killed !== undefined) onCleaned(dir, killed);
    }
  }
  const broker = labIn(brokerDir(undefined));
  if (broker && dirname(broker.dir) !== base) labs.push(broker);
  return labs.sort((a, b) => a.started - b.started || (a.id < b.id ? -1 : 1));
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

/** Ends what still runs of a dead lab (the kernel should have done so) and removes its files. Undefined: it is used again. */
function cleanLeftover(dir: string): number | undefined {
  let killed: number | undefined;
  const remove = () => {
    const left = processesOf(dir);
    for (const pid of left) endProcess(pid, 'SIGKILL');
    rmSync(dir, { recursive: true, force: true });
    killed = left.length;
  };
  ifUnused(dir, remove);
  return killed;
}
