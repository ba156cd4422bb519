/** What a ned script starts, found out by running it in a broker that nobody comes to. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LabSecret } from '#common/broker/secret';
import { L4_ERRNO, toL4Error } from '#common/ipc/errors';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import { Lab, type LabOptions } from '../lab.ts';
import { UsageError } from '../problem.ts';
import { claimLab } from '../registry.ts';
import { runBase } from '../run_base.ts';

/** Nothing that a script starts is waited for here: what takes longer never ends. Counted from ned's first answer. */
const LIMIT_MS = 5000;
const LOOK_MS = 20;
const HINT =
  'nothing that it starts runs while it is read, so a loop that waits for something must have an end';

export interface RecordedScript {
  /** What it starts, in its order, the machine first. */
  readonly tasks: readonly m.ITaskStatus[];
  /** It waits for what it starts: it has not ended before that runs. */
  readonly waits: boolean;
}

/** Reads the script. Throws UsageError when it fails or does not end. */
export async function recordedScript(options: LabOptions): Promise<RecordedScript> {
  const [script = ''] = options.command;
  const claim = claimLab(join(runBase(), randomBytes(4).toString('hex')));
  const secret = new LabSecret(randomBytes(32).toString('hex'));
  const lab = new Lab({ ...options, external: { secret, claim, madeSecret: false, rehearses: true } });
  const printed: string[] = [];
  lab.on('log', ({ text, event }) => {
    if (!event) printed.push(text);
  });
  const stopped = new AbortController();
  const cannot = (why: string) => new UsageError(`Cannot find out what ${script} starts as ${why}`);
  let answered = () => {};
  const firstAnswer = new Promise<void>((resolve) => {
    answered = resolve;
  });
  const limit = async (): Promise<never> => {
    await firstAnswer;
    await sleep(LIMIT_MS, undefined, { signal: stopped.signal });
    throw cannot(`it has not ended after ${LIMIT_MS / 1000} s: ${HINT}`);
  };
  const end = async (): Promise<never> => {
    const { reason } = await lab.ended;
    throw cannot(`${reason}:\n${printed.join('\n')}`);
  };
  try {
    const status = await Promise.race([scriptEnd(lab, answered, stopped.signal), limit(), end()]);
    if (status.scriptState === 'failed') throw cannot(`it fails: ${status.error}`);
    return { tasks: status.tasks, waits: status.waits };
  } finally {
    stopped.abort();
    await lab.stop();
  }
}

async function scriptEnd(lab: Lab, answered: () => void, signal: AbortSignal): Promise<m.LabStatus> {
  for (;;) {
    const status = await statusOf(lab);
    if (status) answered();
    if (status && status.scriptState !== 'loading') return status;
    // Rejects: a call after the lab's end would keep this process.
    await sleep(LOOK_MS, undefined, { signal });
  }
}

/** Undefined: ned has not started yet, on a machine that is busy, or has ended: then the lab's end says more. */
async function statusOf(lab: Lab): Promise<m.LabStatus | undefined> {
  try {
    return await lab.status();
  } catch (err) {
    const { code, errno } = toL4Error(err);
    if (errno === L4_ERRNO.EIPC_RECV_TIMEOUT || code === 'IPC_SERVER_DIED') return undefined;
    throw err;
  }
}
