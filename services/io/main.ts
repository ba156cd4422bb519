/**
 * The program `io`: finds the machine's devices, runs configuration files, serves one vbus per channel.
 *
 *   rom/io [-v]... [--transparent-msi] [--trace N] [--acpi-debug-level N] rom/ixl.vbus ...
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Capability } from '#common/ipc/capability';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import type { TaskEnv } from '#common/task/env';
import { findProblems } from './diagnostics.ts';
import { LEVEL_DEBUG, Log } from './log.ts';
import { type Busses, Configuration } from './lua/configuration.ts';
import { ConfigEngine, startLua } from './lua/engine.ts';
import { dmaAccess, icuAccess, memoryAccess, pciAccess } from './machine.ts';
import { type Options, parseOptions } from './options.ts';
import { type FoundFunction, scanPci } from './pci/scan.ts';
import { createHardwareTree, type HwDevice } from './tree/hw.ts';
import { type IcuAccess, Interrupts } from './vbus/interrupts.ts';
import { missingBusBindings } from './vbus/missing_bus.ts';
import { type Machine, vbusBindings } from './vbus/services.ts';

/** exit(-1), as a parent sees it. */
const STATUS_FATAL = 255;
/** A machine that is away is looked for that often. */
const TRY_AGAIN_MS = 200;

/** Runs Io until the task is to end. Status 1: a configuration file cannot be read; 255: no usable machine. */
export async function main(env: TaskEnv): Promise<number> {
  const print = (line: string): void => void env.stdout.write(`${line}\n`);
  const options = parseOptions(env.argv);
  const log = new Log(options.verbosity, print);
  print('Io service');
  announce(options, log);
  // Scanning is waiting for the machine: meanwhile the files come, and below the interpreter starts.
  const files = options.files.map((path) => readConfig(env, path));
  const gates = new Map<string, Gate>();
  const aborted = new Promise<void>((resolve) => {
    if (env.signal.aborted) resolve();
    else env.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  for (;;) {
    const life: MachineLife = { over: false };
    const lua = startLua();
    const machine = openMachine(env, life, log);
    const functions = machine && (await scan(env, machine, log));
    if (env.signal.aborted) return 0;
    if (machine === undefined || functions === undefined) {
      print('terminating...');
      return STATUS_FATAL;
    }
    const gone = env.ipc.whenGone(env.caps.get('sigma0') as Capability);
    const hardware = createHardwareTree(functions, log);
    const configuration = new Configuration(hardware, log, print);
    if (!(await configure(new ConfigEngine(await lua, configuration), files, log))) return 1;
    await publish(env, configuration.busses, hardware, machine, gates, log);
    await env.stderr.write('Ready. Waiting for requests.\n');
    await Promise.race([aborted, gone]);
    if (env.signal.aborted) return 0;
    life.over = true;
    for (const gate of gates.values()) gate.clearRoot();
    log.always('The machine went away: its devices are looked for again when it is back');
  }
}

/** The machine's end makes everything that was bound at it void. */
interface MachineLife {
  over: boolean;
}

function announce(options: Options, log: Log): void {
  const hex = (mask: number): string => mask.toString(16).padStart(8, '0');
  for (const error of options.errors) log.always(error);
  if (options.transparentMsi) {
    log.always('Enabling transparent MSIs');
    log.always(
      'WARNING: --transparent-msi changes nothing here: drivers see the MSI capabilities of their devices',
    );
  }
  if (options.traceMask !== undefined) log.always(`Set trace mask to 0x${hex(options.traceMask)}`);
  if (options.acpiDebugLevel !== undefined)
    log.always(`Set acpi debug level to 0x${hex(options.acpiDebugLevel)}`);
  log.info(`Debug level: ${options.verbosity}`);
}

/** The machine behind `sigma0`, `icu` and `iommu`; undefined (and said) when there is no `sigma0`. */
function openMachine(env: TaskEnv, life: MachineLife, log: Log): Machine | undefined {
  const sigma0 = env.caps.get('sigma0');
  if (sigma0 === undefined) {
    log.always(
      'FATAL uncaught exception: getting sigma0 cap: Io has no capability "sigma0": add `sigma0 = L4.Env.sigma0` to its caps in the ned script',
    );
    return undefined;
  }
  const [icu, iommu] = [env.caps.get('icu'), env.caps.get('iommu')];
  if (icu === undefined) {
    log.always(
      'WARNING: Io has no capability "icu": no interrupt can be bound; add `icu = L4.Env.icu` to its caps in the ned script',
    );
  }
  if (iommu === undefined) log.info('no capability "iommu": DMA spaces are assigned through sigma0');
  if (!env.capNames.includes('platform_ctl'))
    log.warn('WARNING: no capability "platform_ctl": no platform control');
  else
    log.always(
      'WARNING: the capability "platform_ctl" is not used: this machine cannot be suspended or shut down by a task',
    );
  return {
    pci: pciAccess(env.ipc, sigma0),
    memory: memoryAccess(env.ipc, sigma0),
    dma: dmaAccess(env.ipc, iommu, sigma0),
    interrupts: new Interrupts(icu && untilOver(life, icuAccess(env.ipc, icu))),
  };
}

/** Interrupts of a machine that has ended are not unbound at the next one. */
function untilOver(life: MachineLife, icu: IcuAccess): IcuAccess {
  return { ...icu, unbind: async (irq) => (life.over ? undefined : icu.unbind(irq)) };
}

/** The machine's functions; undefined when it is not usable, which has been said, or when Io is to end. */
async function scan(env: TaskEnv, machine: Machine, log: Log): Promise<FoundFunction[] | undefined> {
  // A machine that is away may stay so for days.
  for (;;) {
    try {
      return await scanPci(machine.pci, log);
    } catch (error) {
      const { message, errno, code } = toL4Error(error);
      if (env.signal.aborted) return undefined;
      if (!env.external || code !== 'IPC_SERVER_DIED') {
        log.always(`FATAL uncaught exception: scanning the PCI bus: ${message} (${-errno})`);
        return undefined;
      }
      await sleep(TRY_AGAIN_MS, undefined, { signal: env.signal }).catch(() => {});
    }
  }
}

/** A configuration file, or why it cannot be read. */
interface ConfigFile {
  readonly path: string;
  readonly source?: string;
  readonly problem?: string;
}

/** Never rejects: the problem is told when the file's turn comes. */
async function readConfig(env: TaskEnv, path: string): Promise<ConfigFile> {
  try {
    return { path, source: new TextDecoder().decode(await env.files.read(path)) };
  } catch (error) {
    return { path, problem: error instanceof L4Error ? error.message : String(error) };
  }
}

/** Runs the files in order in one Lua state. False: Io cannot go on. */
async function configure(
  engine: ConfigEngine,
  files: readonly Promise<ConfigFile>[],
  log: Log,
): Promise<boolean> {
  try {
    for (const file of files) {
      const { path, source, problem } = await file;
      log.info(`Loading: config '${path}'`);
      if (source === undefined) log.always(`${path}: cannot open/read file: ${problem}`);
      if (source === undefined || !runConfig(engine, source, path, log)) return false;
    }
    return true;
  } finally {
    engine.close();
  }
}

/** A file with an error is skipped; only without memory there is no going on. */
function runConfig(engine: ConfigEngine, source: string, file: string, log: Log): boolean {
  const { kind, message, trace } = engine.run(source, file);
  if (kind === 'syntax') log.error(`${file}: error using as lua config: ${message}`);
  if (kind === 'error') log.error(`${file}: error executing lua config: ${message}`);
  if (kind === 'memory') log.always(`${file}: out of memory while executing lua config: ${message}`);
  if (kind === 'error' && log.level >= LEVEL_DEBUG && trace !== '') log.debug(trace);
  return kind !== 'memory';
}

/** Says what is wrong with the busses, then puts each behind the channel of its name. */
async function publish(
  env: TaskEnv,
  busses: Busses,
  hardware: HwDevice,
  machine: Machine,
  gates: Map<string, Gate>,
  log: Log,
): Promise<void> {
  for (const bus of busses.values()) bus.finalise();
  const received = { serverEnds: [...env.serverEnds.keys()], clients: [...env.caps.keys()] };
  for (const { level, text } of findProblems(busses, received, hardware)) {
    if (level === 'always') log.always(text);
    else log.warn(text);
  }
  for (const [name, end] of env.serverEnds) {
    const gate = gates.get(name) ?? (await env.ipc.serve(end));
    gates.set(name, gate);
    const bus = busses.get(name);
    // A channel without a bus is served as well: its callers get an error instead of waiting for ever.
    gate.setRoot(bus ? vbusBindings(bus, machine, gate, log) : missingBusBindings(name, [...busses.keys()]));
  }
}
