/** Runs configuration text against a fake machine, for tests. */
import { Configuration } from '../lua/configuration.ts';
import { ConfigEngine, type EngineOptions, type Outcome, startLua } from '../lua/engine.ts';
import { scanPci } from '../pci/scan.ts';
import { createHardwareTree, type HwDevice } from '../tree/hw.ts';
import type { SystemBus } from '../tree/vi.ts';
import { type FakeFunction, FakePci, recordingLog } from './fake_machine.ts';

export interface Scenario {
  readonly pci: FakePci;
  readonly hardware: HwDevice;
  readonly configuration: Configuration;
  /** Messages of Io. */
  readonly lines: string[];
  /** What scripts printed. */
  readonly printed: string[];
  run(source: string, name?: string): Outcome;
  /** A published bus, finalised. */
  bus(name: string): SystemBus;
  close(): void;
}

export async function scenario(
  functions: readonly FakeFunction[],
  options: EngineOptions & { level?: number } = {},
): Promise<Scenario> {
  const { log, lines } = recordingLog(options.level);
  const pci = new FakePci(functions);
  const hardware = createHardwareTree(await scanPci(pci, log), log);
  const printed: string[] = [];
  const configuration = new Configuration(hardware, log, (line) => printed.push(line));
  const engine = new ConfigEngine(await startLua(), configuration, options);
  return {
    pci,
    hardware,
    configuration,
    lines,
    printed,
    run: (source, name = 'rom/test.vbus') => engine.run(source, name),
    bus: (name) => {
      const bus = configuration.busses.get(name);
      if (bus === undefined) throw new Error(`no vbus ${name}: ${lines.join('\n')}`);
      bus.finalise();
      return bus;
    },
    close: () => engine.close(),
  };
}
