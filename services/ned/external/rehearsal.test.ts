import { beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { Channels } from '../channels.ts';
import type { References } from '../references.ts';
import { Rehearsal } from './rehearsal.ts';

const OTHER = { gate: 'f'.repeat(32), object: 3, masks: [], proof: new Uint8Array() };

let channels: Channels;
let rehearsal: Rehearsal;
let handles: Capability[];

beforeEach(() => {
  channels = new Channels('/nowhere');
  handles = [];
  const references = {
    get: (handle: number) => handles[handle] as Capability,
    handleByAdopting: (cap: Capability) => handles.push(cap) - 1,
  } as unknown as References;
  rehearsal = new Rehearsal({ channels, references, newObject: () => OTHER });
});

/** Handle of a channel whose server end a task was given, or nobody. */
function channel(served: boolean): number {
  const end = createGate();
  channels.add(end, 'x.cfg:1');
  if (served) channels.addServer(end.gate, { name: 'server', running: true, dormant: true, epitaph: '' });
  return handles.push(rootCapability(end)) - 1;
}

describe('Rehearsal', () => {
  it('answers for servers that do not run, and says that the script waits for them', () => {
    const handle = channel(true);
    expect(rehearsal.answer('interfaces', [handle, 'c'])).toEqual([['l4lab.Factory', 'l4lab.Namespace']]);
    const object = rehearsal.answer('create', [handle, 0, []]);
    expect([handles[Number(object)], rehearsal.answer('register', [handle, 'x'])]).toEqual([OTHER, true]);
    expect(rehearsal.waits).toBe(true);
  });

  it('leaves to ned what is its own, and what can never be answered is an error', () => {
    const own = handles.push(OTHER) - 1;
    for (const operation of ['interfaces', 'create', 'query', 'register', 'start', 'write'])
      expect(rehearsal.answer(operation, [own])).toBeUndefined();
    expect(rehearsal.waits).toBe(false);
    expect(() => rehearsal.answer('create', [channel(false)])).toThrow(/nobody can ever answer/);
  });

  it('lets tasks live and end as the script looks at them, and time stand still', () => {
    const states = [1, 2, 3, 4].map(() => rehearsal.answer('task_state', ['a']));
    expect(states).toEqual(['initializing', 'running', 'zombie', 'zombie']);
    expect([rehearsal.answer('sleep', [1e9]), rehearsal.waits]).toEqual([[], true]);
    expect(rehearsal.answer('task_exit_code', ['b'])).toBeUndefined();
    expect([rehearsal.answer('task_wait', ['b']), rehearsal.answer('task_state', ['b'])]).toEqual([
      0,
      'zombie',
    ]);
    expect(rehearsal.answer('task_exit_code', ['b'])).toBe(0);
  });
});
