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
import { useLab } from '../registry.ts';
import { brokerDir } from '../run_base.ts';
import { RunningComponent } from './running.ts';
import { StopRequest } from './stop_request.ts';

/** Longest deadline of a timer: the script may take as long as it likes to start the task. */
const NO_LIMIT_MS = 2 ** 31 - 1;
const SAY_MS = 1000;
const EXIT_SIGTERM = 143;

/** Runs the task to its end and returns its exit status. Throws UsageError when the broker refuses. */
export async function component(task: string, options: { readonly runDir?: string }): Promise<number> {
  const dir = brokerDir(options.runDir);
  const say = (text: string) => console.error(`l4lab: component '${task}': ${text}`);
  const stop = new StopRequest();
  void watchKeeper(say, () => stop.request());
  const lab = useLab(dir);
  const instance = randomName();
  const lifeline = new Lifeline(dir, instance);
  const health = new Health(healthFiles(dir, instance), 'it waits for the broker');
  let connection: BrokerConnection | undefined;
  try {
    const secret = await awaitSecret(dir, say, stop.signal);
    if (!secret) return EXIT_SIGTERM;
    connection = connect(dir, secret, (text) => {
      if (text.startsWith('Broker.Fetch')) say(text);
    });
    const record = await fetchRecord(connection, { task, instance }, stop.signal, say);
    if (!record) return EXIT_SIGTERM;
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

/** Waits until the script has started the task; undefined: we are to end before that. */
async function fetchRecord(
  { broker }: BrokerConnection,
  what: { readonly task: string; readonly instance: string },
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<m.LaunchRecord | undefined> {
  const request = { ...what, version: VERSION, host: hostname(), pid: process.pid };
  for (;;) {
    const timer = setTimeout(() => void sayWhy().catch(() => {}), SAY_MS);
    const sayWhy = async (): Promise<void> => {
      const { text } = await broker.health({ task: what.task }, { deadlineMs: SAY_MS });
      say(`waiting for ned to start it: ${text}`);
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
