/** `l4lab logs`: what a running lab has printed, and with -f what it goes on to print. */
import { setTimeout as sleep } from 'node:timers/promises';
import { formatLog, type LogRecord } from '#common/obs/log_record';
import { hasColors } from './colors.ts';
import { LogReader } from './log_file.ts';
import { UsageError } from './problem.ts';
import { selectLab } from './select.ts';

export interface LogsOptions {
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly lab?: string;
}

/** How often a followed log is looked at. */
const LOOK_MS = 100;

export async function logs(tasks: readonly string[], options: LogsOptions): Promise<number> {
  const lab = selectLab(options.lab);
  const reader = new LogReader(lab.dir);
  const colored = hasColors(process.stdout);
  const wanted = (record: LogRecord) =>
    (options.json || !record.event) &&
    (tasks.length === 0 || tasks.includes(record.task) || tasks.includes(record.tag));
  const seen = new Set<string>();
  for (let records = reader.next(); records; records = reader.next()) {
    for (const record of records) {
      seen.add(record.task).add(record.tag);
      if (wanted(record))
        process.stdout.write(`${options.json ? JSON.stringify(record) : formatLog(record, colored)}\n`);
    }
    if (!options.follow) break;
    await sleep(LOOK_MS);
  }
  const missing = tasks.filter((task) => !seen.has(task));
  if (missing.length > 0 && !options.follow) {
    throw new UsageError(
      `Cannot show logs of ${missing.join(', ')} as no such task has printed anything: there are ${[...seen].join(', ')}`,
    );
  }
  return 0;
}
