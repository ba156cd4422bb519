/** What tests of configuration files share: labs that are closed by themselves, and what their busses have. */
import { afterEach, expect } from 'vitest';
import type { ProxyDevice } from '../tree/vi.ts';
import { E1000, type FakeFunction, HOST_BRIDGE } from './fake_machine.ts';
import { type Scenario, scenario } from './scenario.ts';

const open: Scenario[] = [];
afterEach(() => {
  for (const made of open.splice(0)) made.close();
});

/** A machine, by default with a bridge and a NIC, and Lua over it; closed after the test. */
export async function start(
  functions: readonly FakeFunction[] = [HOST_BRIDGE, E1000],
  level = 1,
): Promise<Scenario> {
  const made = await scenario(functions, { level });
  open.push(made);
  return made;
}

/** Runs text that must not fail. */
export function run(lab: Scenario, source: string): void {
  expect(lab.run(source)).toMatchObject({ kind: 'ok', message: '' });
}

/** "handle name" of every device of a bus. */
export function devices(lab: Scenario, name: string): string[] {
  return [...lab.bus(name).walk()].map((device) => `${(device as ProxyDevice).handle} ${device.name}`);
}
