/** `l4lab health TASK`: whether a task of the broker serves what it is there for; for container health checks. */
import { toL4Error } from '#common/ipc/errors';
import { connect, explain } from './broker_client.ts';
import { brokerDir } from './run_base.ts';
import { findSecret } from './secret.ts';

const ANSWER_MS = 2000;

/** 0: ready; 1: not, and why is printed. Throws UsageError when the broker refuses the secret. */
export async function health(task: string, options: { readonly runDir?: string }): Promise<number> {
  const dir = brokerDir(options.runDir);
  const secret = findSecret(dir, process.env);
  if (!secret) {
    console.log(
      `${task} is not ready: no broker runs in ${dir}, or its secret is not there (L4LAB_SECRET_FILE)`,
    );
    return 1;
  }
  const { ipc, broker } = connect(dir, secret, () => {});
  try {
    const { ready, text } = await broker.health({ task }, { deadlineMs: ANSWER_MS });
    console.log(text);
    return ready ? 0 : 1;
  } catch (err) {
    if (toL4Error(err).code === 'IPC_BAD_PROOF') throw explain(err, `ask for '${task}'`);
    console.log(`${task} is not ready: ${toL4Error(err).message}`);
    return 1;
  } finally {
    ipc.close();
  }
}
