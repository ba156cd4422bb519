/**
 * Objects of tasks that the user's commands may call: files `<run dir>/c/<task>`, as closed to others as the run
 * directory is. Their task holds a lock on its file, so that a file whose task has died counts for nothing; a task
 * that is started again publishes anew. Nobody else has to be there: not ned, not a broker.
 */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Capability, isCapability } from '#common/ipc/capability';
import { FileLock } from '#common/shm/lock';

const FOLDER = 'c';
/** A name that no task has: the file is not complete yet. */
const DRAFT = '.new-';

export interface Published {
  /** What it is, e.g. `switch`. */
  readonly kind: string;
  /** Name of its task. */
  readonly name: string;
  readonly capability: Capability;
}

/** Publishes the one object of this task until `close`, or the end of the process. */
export function publish(runDir: string, task: string, object: Published): { close(): void } {
  const path = join(runDir, FOLDER, task);
  const draft = join(runDir, FOLDER, `${DRAFT}${task}`);
  const { gate, object: id, masks, proof } = object.capability;
  const capability = { gate, object: id, masks, proof: Buffer.from(proof).toString('hex') };
  const lock = FileLock.tryTake(draft);
  try {
    writeFileSync(draft, JSON.stringify({ kind: object.kind, name: object.name, capability }));
    renameSync(draft, path);
  } catch (err) {
    rmSync(draft, { force: true });
    lock?.release();
    throw err;
  }
  return {
    close: () => {
      rmSync(path, { force: true });
      lock?.release();
    },
  };
}

/** Objects of that kind whose tasks live, by name. */
export function findPublished(runDir: string, kind: string): Published[] {
  return (
    filesOf(runDir)
      // Held alone: others who look at the same moment are no task.
      .filter((path) => FileLock.isHeld(path, { alone: true }))
      .map(read)
      .filter((object) => object !== undefined)
      .filter((object) => object.kind === kind)
      .sort((a, b) => a.name.localeCompare(b.name))
  );
}

/** Of a lab of an older version there may be no such folder; a lab may end meanwhile. */
function filesOf(runDir: string): string[] {
  try {
    const names = readdirSync(join(runDir, FOLDER)).filter((name) => !name.startsWith(DRAFT));
    return names.map((name) => join(runDir, FOLDER, name));
  } catch {
    return [];
  }
}

function read(path: string): Published | undefined {
  try {
    const { kind, name, capability } = JSON.parse(readFileSync(path, 'utf8')) as Published & {
      readonly capability: Omit<Capability, 'proof'> & { readonly proof: string };
    };
    const cap = { ...capability, proof: Buffer.from(capability.proof, 'hex') };
    return isCapability(cap) ? { kind: String(kind), name: String(name), capability: cap } : undefined;
  } catch {
    return undefined;
  }
}
