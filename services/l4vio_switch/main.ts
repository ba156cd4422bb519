/**
 * l4vio_switch: a virtual Ethernet switch for virtio-net clients, with optional NICs.
 *
 * Capabilities: `svr` (the factory that clients create ports with), `vbus` (optional: the NIC's bus), and those
 * named with -d. Exit status: 0 asked to end, 1 bad command line, 2 no `svr`.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerEnd } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { bind } from '#common/ipc/service';
import { trustOnly } from '#common/l4virtio/trusted';
import type { TaskEnv } from '#common/task/env';
import { Factory } from '../../proto/gen/services.js';
import { serveControl } from './control.ts';
import { factoryHandlers } from './factory.ts';
import type { PortSpec } from './factory_args.ts';
import { journalPath, type KeptRecord, PortJournal } from './journal.ts';
import { CONSOLE, Log } from './log.ts';
import { type Nic, startNics } from './nic.ts';
import { OptionError, type Options, parseOptions, USAGE } from './options.ts';
import { releaseLost, restorePorts } from './resume.ts';
import { Switch } from './switch.ts';

const EXIT_BAD_OPTION = 1;
const EXIT_NO_SVR = 2;

/** How long new clients wait for the NICs of a switch that was started again: it is shorter than a call's deadline. */
const NIC_AGAIN_MS = 5000;

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
  const journal = new PortJournal(journalPath(env.runDir, svr.gate), log);
  const control = await serveControl(env, lan, log);
  let starting: Promise<readonly Nic[]> | undefined;
  let gate: Gate | undefined;
  try {
    lan.start();
    if (journal.resumed) gate = await resume(env, svr, lan, journal, log);
    if (!openTunnels(lan, options.tunnels, log)) return EXIT_BAD_OPTION;
    const vbus = env.caps.get('vbus');
    if (vbus) starting = startNics({ env, vbus, lan, log, before: journal }, options);
    // Clients that have their ports already do not wait for the NICs, and new ones not for ever.
    await (journal.resumed ? Promise.race([starting, pause(env.signal)]) : starting);
    if (!env.signal.aborted) {
      gate ??= await env.ipc.serve(svr);
      gate.setRoot([bind(Factory, factoryHandlers(gate, lan, env.memories, log, journal))]);
      control.serveFrom(gate);
      if (!env.signal.aborted) await once(env.signal, 'abort');
    }
    // Who starts components may be about to start this one again; the directory goes with the lab.
    if (!env.external) journal.close();
    return 0;
  } finally {
    control.close();
    // With the gate closed first, clients do not hear that their ports are given up, but that the switch is away.
    if (env.external) gate?.close();
    lan.close();
    await Promise.all(((await starting) ?? []).map((nic) => nic.close()));
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

/** Serves the ports of an earlier life. Calls to the factory wait for `setRoot`. */
async function resume(
  env: TaskEnv,
  svr: ServerEnd,
  lan: Switch,
  journal: PortJournal,
  log: Log,
): Promise<Gate> {
  let ports: KeptRecord[] = [];
  const gate = await env.ipc.serve(svr, (unbound) => {
    ports = restorePorts(unbound, lan, journal);
  });
  if (ports.length > 0)
    log.always(`Started again, with the ports ${ports.map(({ name }) => name).join(' ')}`);
  void releaseLost(env, gate, svr.gate, ports, log);
  return gate;
}

async function pause(signal: AbortSignal): Promise<void> {
  await sleep(NIC_AGAIN_MS, undefined, { signal, ref: false }).catch(() => {});
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
