/**
 * A program for labs of tests: maps the page of its statistics reader `stats` once, and says which ports it shows whenever
 * these change, for as long as it lives.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { SharedMemoryRef } from '#common/shm/dataspace';
import type { TaskEnv } from '#common/task/env';
import { SwitchStatistics } from '../../proto/gen/services.js';

/** Offsets of proto/statistics.proto. */
const [MAX_PORTS, ARRAY, ENTRY, NAME, NAME_BYTES, IN_USE] = [8, 16, 80, 54, 20, 74] as const;

export async function main({ ipc, caps, arena, memories, signal }: TaskEnv): Promise<number> {
  const cap = caps.get('stats');
  if (!cap) throw new Error('there are no stats');
  const reader = ipc.client(SwitchStatistics, cap);
  const { memory } = await reader.getBuffer();
  const page = memories.open(memory as SharedMemoryRef);
  const names = (): string[] => {
    const slots = Number(arena.view.getBigUint64(page.offset + MAX_PORTS, true));
    const entries = Array.from({ length: slots }, (_, slot) => page.offset + ARRAY + slot * ENTRY);
    return entries
      .filter((at) => arena.u8[at + IN_USE] === 1)
      .map((at) =>
        Buffer.from(arena.u8.slice(at + NAME, at + NAME + NAME_BYTES))
          .toString()
          .replace(/\0+$/, ''),
      );
  };
  let said = '';
  while (!signal.aborted) {
    // A switch that is away is waited for by the next call.
    await reader.sync().catch(() => {});
    const now = `ports: ${names().join(' ')}`;
    if (now !== said) console.log(now);
    said = now;
    await sleep(20);
  }
  return 0;
}
