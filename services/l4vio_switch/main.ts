/**
 * l4vio_switch: a virtual Ethernet switch for virtio-net clients, with optional NICs.
 *
 * Capabilities: `svr` (the factory that clients create ports with), `vbus` (optional: the NIC's bus), and those
 * named with -d. Exit status: 0 asked to end, 1 bad command line, 2 no `svr`.
 */
import { once } from 'node:events';
import { L4Error } from '#common/ipc/errors';
import { bind } from '#common/ipc/service';
import { trustOnly } from '#common/l4virtio/trusted';
import type { TaskEnv } from '#common/task/env';
import { Factory } from '../../proto/gen/services.js';
import { serveControl } from './control.ts';
import { factoryHandlers } from './factory.ts';
import type { PortSpec } from './factory_args.ts';
import { CONSOLE, Log } from './log.ts';
import { type Nic, startNics } from './nic.ts';
import { OptionError, type Options, parseOptions, USAGE } from './options.ts';
import { Switch } from './switch.ts';

const EXIT_BAD_OPTION = 1;
const EXIT_NO_SVR = 2;

/** 256 ports with queues and buffers of a few MiB each. */
export const arenaBytes = 2 ** 31 - 4096;

export async function main(env: TaskEnv): Promise<number> {
  const options = readOptions(env.argv.slice(1));
  if (!options) return EXIT_BAD_OPTION;
  const log = new Log(CONSOLE, options.levels);
  if (options.help) {
    log.plain(USAGE);
    return 0;
  }
  greet(env.argv, options, log);
  const svr = env.serverEnds.get('svr');
  if (!svr) {
    log.fatal("error registering switch: there is no capability 'svr'; give it one with svr = channel:svr()");
    return EXIT_NO_SVR;
  }
  const accepts = await trustOnly(env, options.trustedDataspaces);
  const lan = new Switch(env, { ...options, log, ...(accepts ? { accepts } : {}) });
  let nics: readonly Nic[] = [];
  const control = await serveControl(env, lan, log);
  try {
    lan.start();
    if (!openTunnels(lan, options.tunnels, log)) return EXIT_BAD_OPTION;
    const vbus = env.caps.get('vbus');
    if (vbus) nics = await startNics({ env, vbus, lan, log }, options);
    if (!env.signal.aborted) {
      const gate = await env.ipc.serve(svr);
      gate.setRoot([bind(Factory, factoryHandlers(gate, lan, env.memories, log))]);
      control.serveFrom(gate);
      if (!env.signal.aborted) await once(env.signal, 'abort');
    }
    return 0;
  } finally {
    control.close();
    lan.close();
    await Promise.all(nics.map((nic) => nic.close()));
  }
}

/** False: a tunnel of --vxlan cannot be had; the log says why. */
function openTunnels(lan: Switch, tunnels: readonly PortSpec[], log: Log): boolean {
  try {
    for (const { vxlan, ...spec } of tunnels) if (vxlan) lan.createTunnel({ ...spec, vxlan });
    return true;
  } catch (err) {
    if (!(err instanceof L4Error)) throw err;
    log.fatal(err.message);
    return false;
  }
}

function readOptions(args: readonly string[]): Options | undefined {
  try {
    return parseOptions(args);
  } catch (err) {
    if (!(err instanceof OptionError)) throw err;
    const log = new Log(CONSOLE);
    log.fatal(err.message);
    log.fatal('Error during command line parsing.');
    return undefined;
  }
}

/** What the original prints unless it is told to be quiet. */
function greet(argv: readonly string[], { levels, warnings }: Options, log: Log): void {
  if (levels.core === 0) return;
  log.always('Arguments:');
  for (const arg of argv) log.always(`\t${arg}`);
  log.plain('Hello from l4virtio switch');
  for (const warning of warnings) log.warn('core', warning);
}
