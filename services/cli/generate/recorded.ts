/** What a ned script starts, found out by running it in a broker that nobody comes to. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LabSecret } from '#common/broker/secret';
import { L4_ERRNO, toL4Error } from '#common/ipc/errors';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import { Lab, type LabOptions } from '../lab.ts';
import { UsageError } from '../problem.ts';
import { runBase } from '../registry.ts';

/** A script that blocks never ends here, as nothing that it starts runs. Counted from ned's first answer. */
const LIMIT_MS = 5000;
const LOOK_MS = 20;
const HINT =
  'nothing that it starts runs while it is read, so what waits for a server must be a function, e.g. virtnet = function() return vswitch:create(0) end';

/** The script's launches in its order, the machine first. Throws UsageError when it fails or does not end. */
export async function recordedTasks(options: LabOptions): Promise<readonly m.ITaskStatus[]> {
  const [script = ''] = options.command;
  const dir = join(runBase(), randomBytes(4).toString('hex'));
  const secret = new LabSecret(randomBytes(32).toString('hex'));
  const lab = new Lab({ ...options, external: { secret, dir, madeSecret: false } });
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
    const waits = printed.find((text) => text.includes('waiting for')) ?? '';
    const where = waits === '' ? '' : ` (${waits.replace(/^Ned: /, '')})`;
    throw cannot(`it has not ended after ${LIMIT_MS / 1000} s${where}: ${HINT}`);
  };
  const end = async (): Promise<never> => {
    const { reason } = await lab.ended;
    throw cannot(`${reason}:\n${printed.join('\n')}`);
  };
  try {
    const status = await Promise.race([scriptEnd(lab, answered, stopped.signal), limit(), end()]);
    if (status.scriptState === 'failed') throw cannot(`it fails: ${status.error}`);
    return status.tasks;
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

/** Undefined: ned has not started yet, on a machine that is busy. */
async function statusOf(lab: Lab): Promise<m.LabStatus | undefined> {
  try {
    return await lab.status();
  } catch (err) {
    if (toL4Error(err).errno === L4_ERRNO.EIPC_RECV_TIMEOUT) return undefined;
    throw err;
  }
}
