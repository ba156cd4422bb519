/**
 * l4vio_net_p2p: a virtual network cable between two virtio-net clients (F3.12).
 *
 * Capabilities: `svr` (the factory that clients create their ports with), and those named with -d. Exit status: 0 asked
 * to end, 1 bad command line, 2 no `svr`.
 */
import { once } from 'node:events';
import { bind } from '#common/ipc/service';
import { trustOnly } from '#common/l4virtio/trusted';
import type { TaskEnv } from '#common/task/env';
import { Factory } from '../../proto/gen/services.js';
import { factoryHandlers } from './factory.ts';
import { Link } from './link.ts';
import { OptionError, type Options, parseOptions, USAGE } from './options.ts';

const EXIT_BAD_OPTION = 1;
const EXIT_NO_SVR = 2;

const say = (line: string): void => console.log(line);

export async function main(env: TaskEnv): Promise<number> {
  say('Hello from l4vio_net_p2p');
  const options = readOptions(env.argv.slice(1));
  if (!options) return EXIT_BAD_OPTION;
  if (options.help) {
    say(USAGE);
    return 0;
  }
  const { queueSize, pollUs, trustedDataspaces } = options;
  for (const warning of options.warnings) say(warning);
  say(`Max number of buffers in virtqueue: ${queueSize}`);
  const svr = env.serverEnds.get('svr');
  if (!svr) {
    console.error(
      "error registering switch: there is no capability 'svr'; give it one with svr = channel:svr()",
    );
    return EXIT_NO_SVR;
  }
  const accepts = await trustOnly(env, trustedDataspaces);
  const link = new Link(env, { queueSize, pollUs, accepts, log: say });
  try {
    if (pollUs !== undefined) say(`Enable polling at interval ${pollUs} usec`);
    link.start();
    const gate = await env.ipc.serve(svr);
    gate.setRoot([bind(Factory, factoryHandlers(gate, link, say))]);
    if (!env.signal.aborted) await once(env.signal, 'abort');
    return 0;
  } finally {
    link.close();
  }
}

function readOptions(args: readonly string[]): Options | undefined {
  try {
    return parseOptions(args);
  } catch (err) {
    if (!(err instanceof OptionError)) throw err;
    console.error(err.message);
    return undefined;
  }
}
