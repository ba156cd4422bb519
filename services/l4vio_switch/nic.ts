/** Brings up the NICs of the `vbus` capability, in one of two ways; without any the switch goes on. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Capability, createGate } from '#common/ipc/capability';
import { L4_ERRNO, L4Error, toL4Error } from '#common/ipc/errors';
import { bind, type Client } from '#common/ipc/service';
import type { TaskEnv } from '#common/task/env';
import { countNics, type IxlDevice, ixlInit, NOTIFY } from '#ixl/ixl';
import { NicPort as NicPortService, Parent } from '../../proto/gen/services.js';
import type { Log } from './log.ts';
import { formatMac } from './mac_address.ts';
import { NicPort, TX_BUFFERS } from './nic_port.ts';
import { NicTask, sayNic, type TaskEnd, withoutNic } from './nic_task.ts';
import type { NicChoice, Options } from './options.ts';
import type { Port } from './port_list.ts';
import type { Switch } from './switch.ts';

const DRIVER = 'rom/ixl';
/** Longest time that a timer can wait; a wait that is longer is done again. */
const FOREVER_MS = 2 ** 31 - 1;
/** How often, and how far apart, a NIC in this process is tried that has worked before the switch was killed. */
const MAX_TRIES = 20;
const TRY_AGAIN_MS = 250;
/** A machine that answers no register for so long costs the switch its NIC: everybody else waits as well. */
const PATIENCE_MS = 10_000;
/** How long the parent may take to end the driver. */
const KILL_MS = 1000;

/** A NIC in use, or the watch over its driver. */
export interface Nic {
  /** Ends the driver. */
  close(): Promise<void>;
}

/** What every NIC is started with. */
interface NicContext {
  readonly env: TaskEnv;
  readonly vbus: Capability;
  readonly lan: Switch;
  readonly log: Log;
  /** NICs that have worked in an earlier life of the switch, by index; what it had may still be being cleaned up. */
  readonly before: { hadNic(index: number): boolean; noteNic(index: number): void };
}

/** Brings up the NICs that the options name, or all; resolves with those that work. Never rejects. */
export async function startNics(context: NicContext, options: Pick<Options, 'ixl' | 'nics'>): Promise<Nic[]> {
  const choices = options.nics.length > 0 ? options.nics : await everyNic(context);
  const start = options.ixl === 'task' ? startNicTask : startNicInProcess;
  const label = ({ index }: NicChoice) => (choices.length > 1 || index > 0 ? `NIC ${index}` : 'NIC');
  // Each takes its port number at once, so numbers are in the order of the NICs.
  const started = await Promise.all(
    choices.map(async (choice) => {
      const nic = await start(context, choice, label(choice));
      if (nic && !context.env.signal.aborted) context.before.noteNic(choice.index);
      return nic;
    }),
  );
  return started.filter((nic) => nic !== undefined);
}

/**
 * All Ethernet controllers of the vbus. The first one is tried in any case: its driver knows best why there is none.
 * With external loading each driver is a component that somebody has to start: those of further NICs are to be asked for.
 */
async function everyNic({ env, vbus }: NicContext): Promise<NicChoice[]> {
  if (env.signal.aborted) return [];
  // Io may not be there yet, and the end of the lab may come first.
  const aborted = once(env.signal, 'abort').then(() => 0);
  const count = env.external ? 1 : await Promise.race([countNics(vbus, env).catch(() => 1), aborted]);
  if (env.signal.aborted) return [];
  return Array.from({ length: Math.max(count, 1) }, (_, index) => ({ index, spec: {} }));
}

/** Starts `rom/ixl` through our parent and waits for it to attach. Undefined: there is no NIC. Never rejects. */
async function startNicTask(
  { env, vbus, lan, log, before }: NicContext,
  { index, spec }: NicChoice,
  label: string,
): Promise<Nic | undefined> {
  if (!env.parent) {
    log.error(withoutNic('this task has no parent that could start rom/ixl: use --ixl=in-process', label));
    return undefined;
  }
  const parent = env.ipc.client(Parent, env.parent);
  // One port for all lives of the driver.
  let port = tryPort(lan, spec, log, label);
  if (!port) return undefined;
  const gate = await env.ipc.serve(createGate());
  let driver: string | undefined;
  const task = new NicTask({
    log,
    label,
    signal: env.signal,
    patient: env.external,
    again: before.hadNic(index),
    startDriver: async (capability) => {
      driver = await startDriver(env, parent, index, { vbus, port: capability });
      return driver;
    },
    waitDriver: (id) => waitTask(env, parent, id),
    mount: (handlers) => {
      const mounted = port ?? lan.createNicPort(spec);
      port = undefined;
      const capability = gate.export([...lan.serveNic(mounted), bind(NicPortService, handlers)]);
      port = mounted;
      return {
        capability,
        identify: (name, mac) => {
          port = identify(lan, mounted, nicName(name, index), mac);
          env.health?.set(`NIC ${index}`);
          return port.name;
        },
        setLinkSpeed: (speed) => lan.setCarrier(mounted.number, speed > 0),
        unmount: (free) => {
          // There was no memory for the next life: the number is somebody else's by now.
          if (!port) return;
          gate.destroy(capability);
          env.health?.set(`NIC ${index}`, free ? undefined : 'its NIC is down');
          if (free) lan.removePort(mounted.number);
          else lan.silenceNic(mounted.number);
        },
      };
    },
    delay: async (ms) => void (await sleep(ms, undefined, { signal: env.signal }).catch(() => {})),
    now: () => performance.now(),
  });
  const nic: Nic = {
    close: async () => {
      // A parent that ends as well has killed it already.
      if (driver) await parent.killTask({ task: driver }, { deadlineMs: KILL_MS }).catch(() => {});
    },
  };
  if (await task.start()) return nic;
  if (env.signal.aborted) await nic.close();
  return undefined;
}

/** Drives the NIC in this process. Undefined: there is no NIC. Never rejects. */
async function startNicInProcess(
  context: NicContext,
  choice: NicChoice,
  label: string,
): Promise<Nic | undefined> {
  const { env, lan, log, before } = context;
  const port = tryPort(lan, choice.spec, log, label);
  if (!port) return undefined;
  for (let tries = before.hadNic(choice.index) ? MAX_TRIES : 1; ; tries--) {
    try {
      return await openNic(context, choice.index, port, label);
    } catch (err) {
      if (tries === 1 || env.signal.aborted) {
        lan.removePort(port.number);
        log.error(withoutNic(toL4Error(err).message, label));
        return undefined;
      }
      await sleep(TRY_AGAIN_MS, undefined, { signal: env.signal }).catch(() => {});
    }
  }
}

/** The NIC in this process, connected to its port. */
async function openNic(
  { env, vbus, lan, log }: NicContext,
  index: number,
  port: Port,
  label: string,
): Promise<Nic> {
  const { number } = port;
  let nic: IxlDevice | undefined;
  try {
    const cfg = { irqTimeoutMs: NOTIFY, txBuffers: TX_BUFFERS, patienceMs: PATIENCE_MS };
    const device = await ixlInit(vbus, index, cfg, env);
    nic = device;
    const { name } = identify(lan, port, nicName(device.getDriverName(), index), device.getMacAddr());
    lan.connectNic(number, (forwarder, scratch) => {
      const endpoint = new NicPort({ number, memory: env.arena, scratch, forwarder, nic: device });
      device.rebindRecvIrq(0, () => {
        if (endpoint.onInterrupt()) lan.activate(number);
      });
      return endpoint;
    });
    device.onLinkChange((speed) => lan.setCarrier(number, speed > 0));
    const speed = device.getLinkSpeed();
    lan.setCarrier(number, speed > 0);
    sayNic(log, name, formatMac(device.getMacAddr()), speed);
    void device.whenGone().then(() => {
      log.error(withoutNic('it does not answer any more: is the machine gone?', label));
      lan.removePort(number);
      void device.close();
    });
    return { close: () => device.close() };
  } catch (err) {
    void nic?.close();
    lan.silenceNic(number);
    throw err;
  }
}

/** A port for a NIC whose driver is not known yet; undefined, and said, when there is none left. */
function tryPort(lan: Switch, spec: NicChoice['spec'], log: Log, label: string): Port | undefined {
  try {
    return lan.createNicPort(spec);
  } catch (err) {
    log.error(withoutNic((err as Error).message, label));
    return undefined;
  }
}

/** The first NIC's port has the name of the driver, as in the original; the others have their number, too. */
function nicName(driver: string, index: number): string {
  return index === 0 ? driver : `${driver}[${index}]`;
}

function identify(lan: Switch, port: Port, driver: string, mac: Uint8Array): Port {
  try {
    return lan.identifyNic(port, driver, mac);
  } catch (cause) {
    throw new L4Error('EEXIST', (cause as Error).message, { code: 'VSWITCH_MAC_IN_USE', cause });
  }
}

async function startDriver(
  env: TaskEnv,
  parent: Client<typeof Parent>,
  index: number,
  { vbus, port }: { vbus: Capability; port: Capability },
): Promise<string> {
  const rom = env.caps.get('rom');
  const { task } = await parent.startTask(
    {
      argv: index === 0 ? [DRIVER] : [DRIVER, '--index', String(index)],
      capabilities: [
        { name: 'vbus', client: vbus },
        { name: 'port', client: port },
        ...(rom ? [{ name: 'rom', client: rom }] : []),
      ],
      environment: {},
      logTag: index === 0 ? 'ixl' : `ixl${index}`,
    },
    { signal: env.signal },
  );
  return task;
}

/** Resolves when a task that our parent has started for us has ended. */
export async function waitTask(env: TaskEnv, parent: Client<typeof Parent>, task: string): Promise<TaskEnd> {
  for (;;) {
    try {
      return await parent.waitTask({ task }, { signal: env.signal, deadlineMs: FOREVER_MS });
    } catch (err) {
      if (!(err instanceof L4Error)) throw err;
      // With external loading ned comes back, and knows the task that went on meanwhile.
      const comesBack = env.external && err.code === 'IPC_SERVER_DIED';
      if (!comesBack && err.errno !== L4_ERRNO.EIPC_RECV_TIMEOUT) throw err;
    }
  }
}
