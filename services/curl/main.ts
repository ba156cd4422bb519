/** The program `curl`: HTTP over lwIP over a virtio-net port. */

import type { TaskEnv } from '#common/task/env';
import { type Network, openNetwork } from '#lwip/index';
import { curl } from './curl.ts';

export async function main(env: TaskEnv): Promise<number> {
  let network: Network | undefined;
  try {
    return await curl(env, async () => {
      network = await openNetwork(env);
      return network.agent();
    });
  } finally {
    await network?.close();
  }
}
