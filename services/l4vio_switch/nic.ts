/** Brings up the NIC of the `vbus` capability, in one of two ways; without one the switch goes on. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Capability, createGate } from '#common/ipc/capability';
import { L4_ERRNO, L4Error } from '#common/ipc/errors';
import { bind, type Client } from '#common/ipc/service';
import type { TaskEnv } from '#common/task/env';
import { type IxlDevice, ixlInit, NOTIFY } from '#ixl/ixl';
import { NicPort as NicPortService, Parent } from '../../proto/gen/services.js';
import type { Log } from './log.ts';
import { formatMac } from './mac_address.ts';
import { NicPort, TX_BUFFERS } from './nic_port.ts';
import { NicTask, sayNic, type TaskEnd, withoutNic } from './nic_task.ts';
import type { Port } from './port_list.ts';
import type { Switch } from './switch.ts';

const DRIVER = 'rom/ixl';
/** Longest time that a timer can wait; a wait that is longer is done again. */
const FOREVER_MS = 2 ** 31 - 1;
/** How often a NIC in this process is asked whether it is still there. */
const WATCH_MS = 5000;
/** How long the parent may take to end the driver. */
const KILL_MS = 1000;

/** A NIC in use, or the watch over its driver. */
export interface Nic {
  /** Ends the driver. */
  close(): Promise<void>;
}

/** Starts `rom/ixl` through our parent and waits for it to attach. Undefined: there is no NIC. Never rejects. */
export async function startNicTask(
  env: TaskEnv,
  vbus: Capability,
  lan: Switch,
  log: Log,
): Promise<Nic | undefined> {
  if (!env.parent) {
    log.error(withoutNic('this task has no parent that could start rom/ixl: use --ixl=in-process'));
    return undefined;
  }
  const parent = env.ipc.client(Parent, env.parent);
  const gate = await env.ipc.serve(createGate());
  let driver: string | undefined;
  // One port for all lives of the driver; made with the first.
  let port: Port | undefined;
  const task = new NicTask({
    log,
    signal: env.signal,
    patient: env.external,
    startDriver: async (capability) => {
      driver = await startDriver(env, parent, vbus, capability);
      return driver;
    },
    waitDriver: (id) => waitDriver(env, parent, id),
    mount: (handlers) => {
      const mounted = port ?? lan.createNicPort();
      port = undefined;
      const capability = gate.export([...lan.serveNic(mounted), bind(NicPortService, handlers)]);
      port = mounted;
      return {
        capability,
        identify: (name, mac) => {
          port = identify(lan, mounted, name, mac);
          env.health?.set('NIC');
        },
        unmount: (free) => {
          gate.destroy(capability);
          env.health?.set('NIC', free ? undefined : 'its NIC is down');
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
export async function startNicInProcess(
  env: TaskEnv,
  vbus: Capability,
  lan: Switch,
  log: Log,
): Promise<Nic | undefined> {
  let nic: IxlDevice | undefined;
  let port: Port | undefined;
  try {
    const device = await ixlInit(vbus, 0, { irqTimeoutMs: NOTIFY, txBuffers: TX_BUFFERS }, env);
    nic = device;
    port = lan.createNicPort();
    const { number } = identify(lan, port, device.getDriverName(), device.getMacAddr());
    lan.connectNic(number, (forwarder, scratch) => {
      const endpoint = new NicPort({ number, memory: env.arena, scratch, forwarder, nic: device });
      device.rebindRecvIrq(0, () => {
        if (endpoint.onInterrupt()) lan.activate(number);
      });
      return endpoint;
    });
    sayNic(log, device.getDriverName(), formatMac(device.getMacAddr()), device.getLinkSpeed());
    const unwatch = watchNic(device, () => {
      log.error(withoutNic('it does not answer any more: is the machine gone?'));
      lan.removePort(number);
      void device.close();
    });
    return {
      close: async () => {
        unwatch();
        await device.close();
      },
    };
  } catch (err) {
    nic?.close();
    if (port) lan.removePort(port.number);
    log.error(withoutNic(err instanceof Error ? err.message : String(err)));
    return undefined;
  }
}

/** Asks every now and then whether the NIC is still there: `onGone` is called once. Returns what ends the asking. */
export function watchNic(nic: Pick<IxlDevice, 'isGone'>, onGone: () => void): () => void {
  const timer = setInterval(() => {
    if (!nic.isGone()) return;
    clearInterval(timer);
    onGone();
  }, WATCH_MS);
  return () => clearInterval(timer);
}

function identify(lan: Switch, port: Port, driver: string, mac: Uint8Array): Port {
  try {
    return lan.ports.identify(port, driver, mac);
  } catch (cause) {
    throw new L4Error('EEXIST', (cause as Error).message, { code: 'VSWITCH_MAC_IN_USE', cause });
  }
}

async function startDriver(
  env: TaskEnv,
  parent: Client<typeof Parent>,
  vbus: Capability,
  port: Capability,
): Promise<string> {
  const rom = env.caps.get('rom');
  const { task } = await parent.startTask(
    {
      argv: [DRIVER],
      capabilities: [
        { name: 'vbus', client: vbus },
        { name: 'port', client: port },
        ...(rom ? [{ name: 'rom', client: rom }] : []),
      ],
      environment: {},
      logTag: 'ixl',
    },
    { signal: env.signal },
  );
  return task;
}

async function waitDriver(env: TaskEnv, parent: Client<typeof Parent>, task: string): Promise<TaskEnd> {
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
