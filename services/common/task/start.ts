/**
 * First code of every task's process: reads the launch record that L4LAB_RECORD names, ties the
 * process's life to its parent's, runs the program and ends with its status.
 */
import { readFileSync, unlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { setParentDeathSignal } from '#common/shm/libc';
import { l4lab as m } from '../../../proto/gen/messages.js';
import { Health } from './health.ts';
import { reportUncaught, runTask } from './run.ts';

/** A task that ignores SIGTERM that long is ended by its own hand. */
const GRACE_MS = 1500;

function takeRecord(): m.LaunchRecord {
  const path = process.env.L4LAB_RECORD;
  if (!path)
    throw new Error('Cannot start task as L4LAB_RECORD is not set: tasks are started by ned (l4lab run)');
  const record = m.LaunchRecord.decode(readFileSync(path));
  unlinkSync(path);
  return record;
}

/** From here on the kernel kills us when the parent dies; if it has died already, so do we. */
function followParent(pid: number): void {
  if (pid === 0) return;
  setParentDeathSignal(constants.signals.SIGKILL);
  if (process.ppid !== pid) process.exit(1);
}

function endRequest(): AbortSignal {
  const controller = new AbortController();
  const end = () => {
    controller.abort();
    setTimeout(() => process.exit(128 + constants.signals.SIGTERM), GRACE_MS).unref();
  };
  process.once('SIGTERM', end);
  // A terminal sends Ctrl-C to every process of the lab; the launcher alone decides what follows.
  process.on('SIGINT', () => {});
  process.on('SIGHUP', () => {});
  return controller.signal;
}

const signal = endRequest();
process.on('uncaughtException', (err) => process.exit(reportUncaught(err)));
const record = takeRecord();
followParent(record.parentPid);
process.title = record.name;
const { L4LAB_RUN_DIR: runDir = '', L4LAB_HEALTH_FILE: healthFile } = process.env;
const health = healthFile ? new Health([healthFile]) : undefined;
const status = await runTask(record, runDir, signal, health);
health?.close();
process.exit(status);
