/** Runs a scenario of `netns_child.ts` in a fresh network namespace: the machine's own network is never touched. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const CHILD = fileURLToPath(new URL('./netns_child.ts', import.meta.url));
const NODE = [process.execPath, '--conditions=source', '--import', 'tsx', CHILD];

/** Why namespaces cannot be made here; undefined when they can. */
export function netnsRefusal(): string | undefined {
  const { status, stderr, error } = spawnSync('unshare', ['-n', 'true'], { encoding: 'utf8' });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

/** The scenario's result. `prelude` is shell code run inside before it (with a mount namespace of its own). */
export function inNetns(scenario: string, prelude = 'true'): unknown {
  const script = `${prelude} && exec ${wrapper(scenario)} "$@"`;
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['-n', '-m', 'sh', '-c', `ip link set lo up && ${script}`, 'sh', ...NODE, scenario],
    {
      encoding: 'utf8',
      timeout: 240_000,
    },
  );
  if (status !== 0) throw new Error(`scenario ${scenario} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

/** `denied` runs as a process without CAP_NET_ADMIN. */
function wrapper(scenario: string): string {
  return scenario === 'denied' ? 'setpriv --bounding-set=-net_admin --inh-caps=-net_admin' : 'env';
}
