/**
 * Program `machine`: the PCI machine that a lab runs on. It stands for what sigma0, the ICU and the
 * IOMMU are on real hardware, and serves them to Io; `control` is the launcher's.
 */
import { lookup } from 'node:dns/promises';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import type { Binding } from '#common/ipc/service';
import type { Arena } from '#common/shm/arena';
import { IrqSource } from '#common/shm/irq';
import { Pump } from '#common/shm/pump';
import type { TaskEnv } from '#common/task/env';
import { Machine } from './machine.ts';
import { controlObject } from './objects/control.ts';
import { InterruptController, icuObject } from './objects/icu.ts';
import { iommuObject } from './objects/iommu.ts';
import { sigma0Object } from './objects/sigma0.ts';
import { type MachineOptions, parseOptions } from './options.ts';
import { createWire, type LogLevel, OptionError, resolveForwards } from './wires/index.ts';

const CANNOT_START = 1;

/** Runs until the task is ended. Exit status 1: an option or a wire is wrong; the reason is on stderr. */
export async function main(env: TaskEnv): Promise<number> {
  const log = (text: string): void => void env.stderr.write(`${text}\n`);
  let options: MachineOptions;
  try {
    const parsed = parseOptions(env.argv.slice(1));
    const forwards = await resolveForwards(parsed.wires.forwards, addressOf);
    options = { ...parsed, wires: { ...parsed.wires, forwards } };
  } catch (err) {
    if (!(err instanceof OptionError)) throw err;
    log(err.message);
    return CANNOT_START;
  }
  return run(env, options, log);
}

/** As the programs of this host look names up: /etc/hosts, then DNS. */
async function addressOf(name: string): Promise<string> {
  return (await lookup(name, { family: 4 })).address;
}

async function run(env: TaskEnv, options: MachineOptions, log: (text: string) => void): Promise<number> {
  const { arena, memories, doorbells, runDir } = env;
  const wake = (): void => pump.kick();
  const controller = new InterruptController({
    open: (name) => new IrqSource(runDir, arena, doorbells, { name }),
    isAsserted: (irq) => machine.lines.isAsserted(irq),
  });
  const machine = new Machine({
    memory: arena,
    mapPrivate: (size) => arena.mapPrivate(size),
    now: () => performance.now() * 1000,
    log,
    wake,
    onIrq: (irq, asserted) => controller.setLevel(irq, asserted),
  });
  const pump = new Pump(machine);
  try {
    if (!plugWires(machine, options, arena, log)) return CANNOT_START;
    await serve(env, 'icu', (gate) => icuObject(controller, gate));
    await serve(env, 'iommu', (gate) => iommuObject(machine, gate, memories));
    await serve(env, 'sigma0', () => sigma0Object(machine, { arena, memories, doorbells, wake }));
    if (env.serverEnds.has('control'))
      await serve(env, 'control', () => controlObject(machine, options.nics));
    pump.start();
    await ended(env.signal);
    return 0;
  } finally {
    pump.stop();
    controller.close();
    machine.close();
  }
}

/** Adds the NICs with their wires. False: a wire lacks something on this host; the reason is logged. */
function plugWires(
  machine: Machine,
  { nics, wires }: MachineOptions,
  arena: Arena,
  log: (text: string) => void,
): boolean {
  const host = { arena, log: (_level: LogLevel, text: string) => log(text) };
  try {
    // A port of the host leads to one network: that of the first user wire.
    const first = nics.findIndex(({ wire }) => wire.kind === 'user');
    for (const [n, nic] of nics.entries()) {
      machine.addNic(nic, createWire(nic.wire, n === first ? wires : { ...wires, hostForwards: [] }, host));
    }
    return true;
  } catch (err) {
    log((err as Error).message);
    return false;
  }
}

/** Becomes the server of one gate. The objects are there before the first request is read. */
async function serve(
  { ipc, serverEnds }: TaskEnv,
  name: string,
  objects: (gate: Gate) => Binding[],
): Promise<void> {
  const end = serverEnds.get(name);
  if (!end) {
    throw new L4Error(
      'ENOENT',
      `Cannot start machine as it needs the server end "${name}": it is started by l4lab run`,
    );
  }
  const gate = await ipc.serve(end);
  gate.setRoot(objects(gate));
}

function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
