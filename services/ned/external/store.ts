/**
 * Files `<run dir>/t/<instance>`: who is which task. With them a broker that was ended and is started again
 * knows the components that went on, and the ones that ended meanwhile.
 */
import { readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isRandomName, stateFile } from '#common/shm/run_dir';
import { l4lab as m } from '../../../proto/gen/messages.js';
import { writeRecord } from '../record_file.ts';
import type { TaskRecord } from '../task.ts';
import type { InstanceFacts } from './instance.ts';

export interface Stored extends InstanceFacts {
  readonly record: m.LaunchRecord;
}

export class InstanceStore {
  readonly #runDir: string;
  readonly #dir: string;

  constructor(runDir: string) {
    this.#runDir = runDir;
    this.#dir = join(runDir, 't');
  }

  /**
   * The file is complete or not there: a crash in between leaves no half of it. Throws L4Error ENOMEM when the run
   * directory's file system is full.
   */
  save({ id, host, pid }: InstanceFacts, record: TaskRecord): void {
    const path = join(this.#dir, id);
    writeRecord(`${path}.new`, m.InstanceRecord.encode({ record, host, pid }).finish(), record.name);
    renameSync(`${path}.new`, path);
  }

  /** What was saved for that instance. */
  record(id: string): m.LaunchRecord {
    return m.InstanceRecord.decode(readFileSync(join(this.#dir, id))).record as m.LaunchRecord;
  }

  remove(id: string): void {
    for (const path of [join(this.#dir, id), stateFile(this.#runDir, id)]) rmSync(path, { force: true });
  }

  /** Everything that was saved and not removed. */
  load(): Stored[] {
    const stored: Stored[] = [];
    for (const id of readdirSync(this.#dir).filter(isRandomName)) {
      try {
        const { record, host, pid } = m.InstanceRecord.decode(readFileSync(join(this.#dir, id)));
        if (record?.launch) stored.push({ id, host, pid, record: record as m.LaunchRecord });
      } catch {
        // The launch record of ned itself, or nothing that we wrote.
      }
    }
    return stored;
  }
}
