/**
 * l4vio_switch: a virtual Ethernet switch for virtio-net clients, with optional NICs.
 *
 * Capabilities: `svr` (the factory that clients create ports with), `vbus` (optional: the NIC's bus), and those
 * named with -d. Exit status: 0 asked to end, 1 bad command line, 2 no `svr`.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { bind } from '#common/ipc/service';
import { journalPath, ObjectJournal } from '#common/journal/object_journal';
import { serveAgain } from '#common/journal/resume';
import { trustOnly } from '#common/l4virtio/trusted';
import type { TaskEnv } from '#common/task/env';
import { Factory } from '../../proto/gen/services.js';
import { serveControl } from './control.ts';
import { factoryHandlers, PORT, restoreObject } from './factory.ts';
import type { PortSpec } from './factory_args.ts';
import { CONSOLE, Log } from './log.ts';
import { type Nic, startNics } from './nic.ts';
import { OptionError, type Options, parseOptions, USAGE } from './options.ts';
import { StatisticsReaders } from './statistics_reader.ts';
import { Switch } from './switch.ts';

const EXIT_BAD_OPTION = 1;
const EXIT_NO_SVR = 2;

/** What the journal has of a NIC that has worked. */
const NIC_MARK = /^nic\d+$/;
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
  const warn = (text: string): void => log.warn('core', text);
  const journal = new ObjectJournal(journalPath(env.runDir, svr.gate), warn, NIC_MARK);
  // Readers of the statistics see that the ports are other ones than before, however many there were.
  const firstAge = journal.resumed ? Date.now() : 0;
  const lan = new Switch(env, { ...options, log, firstAge, ...(accepts ? { accepts } : {}) });
  const readers = new StatisticsReaders(lan, env.memories);
  const control = await serveControl(env, lan, log);
  let starting: Promise<readonly Nic[]> | undefined;
  let gate: Gate | undefined;
  try {
    lan.start();
    if (journal.resumed) {
      const restored = await serveAgain(
        env,
        svr,
        journal,
        (again, record) => restoreObject(again, lan, readers, control, record, journal),
        warn,
      );
      gate = restored.gate;
      const names = restored.records.filter(({ type }) => type === PORT).map(({ name }) => name);
      if (names.length > 0) log.always(`Started again, with the ports ${names.join(' ')}`);
    }
    if (!openTunnels(lan, options.tunnels, log)) return EXIT_BAD_OPTION;
    const vbus = env.caps.get('vbus');
    if (vbus) starting = startNics({ env, vbus, lan, log, before: nicsBefore(journal) }, options);
    // Clients that have their ports already do not wait for the NICs, and new ones not for ever.
    await (journal.resumed ? Promise.race([starting, pause(env.signal)]) : starting);
    if (!env.signal.aborted) {
      gate ??= await env.ipc.serve(svr);
      gate.setRoot([bind(Factory, factoryHandlers(gate, lan, readers, log, journal))]);
      control.serveFrom(gate, journal);
      if (!env.signal.aborted) await once(env.signal, 'abort');
    }
    // Who starts components may be about to start this one again; the directory goes with the lab.
    if (!env.external) journal.close();
    return 0;
  } finally {
    control.close();
    // With the gate closed first, clients do not hear that their ports are given up, but that the switch is away.
    if (env.external) {
      gate?.close();
      readers.leave();
    }
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

/** Which NICs have worked in an earlier life of the switch is in the journal, too. */
function nicsBefore(journal: ObjectJournal): {
  hadNic(index: number): boolean;
  noteNic(index: number): void;
} {
  return {
    hadNic: (index) => journal.hasMark(`nic${index}`),
    noteNic: (index) => journal.mark(`nic${index}`),
  };
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
