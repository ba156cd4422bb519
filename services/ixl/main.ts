/**
 * The program `ixl`: drives one NIC and serves it to a port of the switch, as a process of its own.
 *
 * The switch starts it (through ned) with the capabilities `vbus` and `port`. It brings the NIC up,
 * says so at the port (NicPort.Attach), and is then the virtio driver of that port. When there is no NIC
 * to drive, the switch is told why (NicPort.Failed) and goes on without.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Capability } from '#common/ipc/capability';
import { toL4Error } from '#common/ipc/errors';
import type { TaskEnv } from '#common/task/env';
import { formatMac } from '#common/wire/ethernet';
import { NicPort } from '../../proto/gen/services.js';
import { type IxlDevice, ixlInit, NOTIFY } from './ixl.ts';
import { consoleLog } from './log.ts';
import { type Options, parseOptions, USAGE } from './program/options.ts';
import { PortSession } from './program/port_session.ts';

const EXIT_FAILED = 1;
/** Transmit buffers (F3.10): what the switch may have queued for the NIC. */
const TX_BUFFERS = 1024;
/** How long the switch may take to take note of a failure. */
const FAREWELL_MS = 1000;
/** Longest deadline of a timer. */
const FOREVER_MS = 2 ** 31 - 1;
const TRY_AGAIN_MS = 200;

export async function main(env: TaskEnv): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(env.argv.slice(1));
  } catch (err) {
    return fail(err);
  }
  if (options.help) {
    await env.stdout.write(USAGE);
    return 0;
  }
  const port = env.caps.get('port');
  if (!port) return fail(missing('port', 'the port of the switch that the NIC is for'));
  try {
    await drive(env, port, options.index);
    return 0;
  } catch (err) {
    if (env.signal.aborted) return 0;
    const reason = toL4Error(err).message;
    await env.ipc
      .client(NicPort, port)
      .failed({ reason }, { deadlineMs: FAREWELL_MS })
      .catch(() => {});
    return fail(err);
  }
}

/** Brings the NIC up and serves it; resolves when the task is to end. */
async function drive(env: TaskEnv, port: Capability, index: number): Promise<void> {
  env.health?.set('NIC', 'it has not brought its NIC up yet');
  const vbus = env.caps.get('vbus');
  if (!vbus) throw missing('vbus', 'the virtual bus with the NIC, from io');
  if (env.external) await untilServed(env, vbus);
  const nic = await ixlInit(vbus, index, { irqTimeoutMs: NOTIFY, txBuffers: TX_BUFFERS }, env);
  try {
    await attach(env, port, nic);
    env.health?.set('NIC');
    await new PortSession(env, port, nic, consoleLog).run();
  } finally {
    await nic.close();
  }
}

/** Tells the port which NIC this is, and from then on whenever its link changes. */
async function attach({ ipc, signal }: TaskEnv, port: Capability, nic: IxlDevice): Promise<void> {
  const client = ipc.client(NicPort, port);
  let told = nic.getLinkSpeed();
  const [mac, driver] = [formatMac(nic.getMacAddr()), nic.getDriverName()];
  await client.attach({ mac, driver, linkSpeed: told }, { signal });
  const tell = async (): Promise<void> => {
    const linkSpeed = nic.getLinkSpeed();
    if (linkSpeed === told) return;
    told = linkSpeed;
    await client.link({ linkSpeed }, { signal });
  };
  let telling = Promise.resolve();
  const tellNext = (): void => {
    // A port that does not answer is gone, and whoever serves it notices.
    telling = telling.then(tell).catch(() => {});
  };
  nic.onLinkChange(tellNext);
  tellNext();
}

/** Io may be away, or wait for the machine: with external loading that passes. */
async function untilServed({ ipc, signal }: TaskEnv, vbus: Capability): Promise<void> {
  for (;;) {
    try {
      await ipc.interfaces(vbus, { deadlineMs: FOREVER_MS, signal });
      return;
    } catch (err) {
      if (signal.aborted || toL4Error(err).code !== 'IPC_SERVER_DIED') throw err;
      await sleep(TRY_AGAIN_MS);
    }
  }
}

function missing(name: string, what: string): Error {
  return new Error(`Cannot start ixl as it needs the capability "${name}": ${what}`);
}

function fail(err: unknown): number {
  consoleLog.error(toL4Error(err).message);
  return EXIT_FAILED;
}
