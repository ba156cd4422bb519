/** How a command reaches the broker: its secret, its gate. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabSecret } from '#common/broker/secret';
import { L4Error, toL4Error } from '#common/ipc/errors';
import { Ipc } from '#common/ipc/ipc';
import type { Client } from '#common/ipc/service';
import { randomName } from '#common/shm/run_dir';
import { Broker } from '../../proto/gen/services.js';
import { UsageError } from './problem.ts';
import { brokerKeepsSecret } from './registry.ts';
import { findSecret } from './secret.ts';

const LOOK_MS = 50;
const SAY_MS = 1000;

export interface BrokerConnection {
  readonly ipc: Ipc;
  readonly broker: Client<typeof Broker>;
}

/** Calls on the broker of that directory; none is made yet. */
export function connect(dir: string, secret: LabSecret, onWaiting: (text: string) => void): BrokerConnection {
  const ipc = new Ipc({ runDir: dir, task: randomName(), nameOf: () => `the broker in ${dir}`, onWaiting });
  return { ipc, broker: ipc.client(Broker, secret.brokerCapability) };
}

/** The lab's secret, as soon as it is there; says after a second that it waits. Undefined: aborted before. */
export async function awaitSecret(
  dir: string,
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<LabSecret | undefined> {
  const since = performance.now();
  let said = false;
  for (;;) {
    const secret = findSecret(dir, process.env);
    if (secret) return secret;
    if (brokerKeepsSecret(dir)) {
      throw new UsageError(
        `Cannot use the broker in ${dir} as its secret was not given to this component: set L4LAB_SECRET_FILE (or L4LAB_SECRET) as for the broker`,
      );
    }
    if (signal.aborted) return undefined;
    if (!said && performance.now() - since > SAY_MS) {
      said = true;
      say(
        `waiting for the broker in ${dir} (l4lab broker SCRIPT), or for its secret: L4LAB_SECRET_FILE is not set`,
      );
    }
    await sleep(LOOK_MS);
  }
}

/** What a refusal of the broker means to the user. */
export function explain(err: unknown, what: string): UsageError {
  const { code, message } = toL4Error(err);
  if (code === 'IPC_BAD_PROOF') {
    return new UsageError(
      `Cannot ${what} as the broker refused this secret: give every part of the lab the same L4LAB_SECRET_FILE (or L4LAB_SECRET)`,
    );
  }
  return new UsageError(err instanceof L4Error ? message : String(err));
}
