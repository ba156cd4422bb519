/**
 * `l4lab component TASK`: fetches a task's launch record from the broker and becomes that task, in this
 * very process.
 *
 * When the broker goes away the task goes on; the calls below find the broker again when it is back.
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { toL4Error } from '#common/ipc/errors';
import { Lifeline } from '#common/shm/lifeline';
import { randomName, stateFile } from '#common/shm/run_dir';
import { Health } from '#common/task/health';
import { VERSION } from '#common/version';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import { awaitSecret, type BrokerConnection, connect, explain } from '../broker_client.ts';
import { watchKeeper } from '../keeper.ts';
import { NO_LIMIT_MS } from '../lab_calls.ts';
import { UsageError } from '../problem.ts';
import { useLab } from '../registry.ts';
import { brokerDir } from '../run_base.ts';
import { RunningComponent } from './running.ts';
import { StopRequest } from './stop_request.ts';

const SAY_MS = 1000;
const EXIT_SIGTERM = 143;
/** Not that of a refusal: whoever supervises us may try again. */
const EXIT_TOO_LATE = 1;
const MAX_WAIT_SECONDS = 1e6;

export interface ComponentOptions {
  readonly runDir?: string;
  /** Seconds. */
  readonly wait?: string;
}

/** Runs the task to its end and returns its exit status. Throws UsageError when the broker refuses. */
export async function component(task: string, options: ComponentOptions): Promise<number> {
  const limitMs = limitOf(options);
  const dir = brokerDir(options.runDir);
  const say = (text: string) => console.error(`l4lab: component '${task}': ${text}`);
  const stop = new StopRequest();
  void watchKeeper(say, () => stop.request());
  const lab = useLab(dir);
  const instance = randomName();
  const lifeline = new Lifeline(dir, instance);
  const health = new Health(healthFiles(dir, instance), 'it waits for the broker');
  let connection: BrokerConnection | undefined;
  const waiting =
    limitMs === undefined ? stop.signal : AbortSignal.any([stop.signal, AbortSignal.timeout(limitMs)]);
  let missing = `there is no broker in ${dir} (l4lab broker SCRIPT), or its secret is not there`;
  const giveUp = (): number => {
    if (stop.signal.aborted) return EXIT_SIGTERM;
    console.error(`l4lab: Cannot start '${task}' within ${options.wait} s (--wait) as ${missing}`);
    return EXIT_TOO_LATE;
  };
  try {
    const secret = await awaitSecret(dir, say, waiting);
    if (!secret) return giveUp();
    missing = `the broker in ${dir} does not answer: start it with l4lab broker SCRIPT`;
    connection = connect(dir, secret, (text) => {
      if (text.startsWith('Broker.Fetch')) say(text);
    });
    const record = await fetchRecord(connection, { task, instance }, waiting, (text) => {
      missing = text;
      say(`waiting for ned to start it: ${text}`);
    });
    if (!record) return giveUp();
    // At once, but not without looking whether it is the last one that uses the directory.
    const die = (status: number): never => {
      lab.release();
      process.exit(status);
    };
    const context = { connection, record, dir, instance, stop, say, health, die };
    const status = await new RunningComponent(context).run();
    // A program may leave timers and handles behind; its end is the end of the process.
    setImmediate(() => process.exit(status));
    return status;
  } finally {
    health.close();
    connection?.ipc.close();
    lifeline.close();
    lab.release();
  }
}

/** One file for the broker, and one for whoever looks from outside. */
function healthFiles(dir: string, instance: string): string[] {
  const { L4LAB_HEALTH_FILE: path } = process.env;
  return [stateFile(dir, instance), ...(path ? [path] : [])];
}

/** Throws UsageError. */
function limitOf({ wait }: ComponentOptions): number | undefined {
  if (wait === undefined) return undefined;
  const seconds = Number(wait);
  if (wait.trim() !== '' && seconds >= 0 && seconds <= MAX_WAIT_SECONDS) return seconds * 1000;
  throw new UsageError(
    `Cannot use --wait as it must be 0..${MAX_WAIT_SECONDS} seconds: current value is '${wait}'`,
  );
}

/** Waits until the script has started the task and says after a second why that takes so long; undefined: aborted before. */
async function fetchRecord(
  { broker }: BrokerConnection,
  what: { readonly task: string; readonly instance: string },
  signal: AbortSignal,
  onWaiting: (why: string) => void,
): Promise<m.LaunchRecord | undefined> {
  const request = { ...what, version: VERSION, host: hostname(), pid: process.pid };
  for (;;) {
    const timer = setTimeout(() => void sayWhy().catch(() => {}), SAY_MS);
    const sayWhy = async (): Promise<void> => {
      const { text } = await broker.health({ task: what.task }, { deadlineMs: SAY_MS });
      onWaiting(text);
    };
    try {
      return await broker.fetch(request, { signal, deadlineMs: NO_LIMIT_MS });
    } catch (err) {
      if (signal.aborted) return undefined;
      // The broker ended meanwhile: it may come back.
      if (toL4Error(err).code !== 'IPC_SERVER_DIED') throw explain(err, `start '${what.task}'`);
      await sleep(SAY_MS / 10);
    } finally {
      clearTimeout(timer);
    }
  }
}
