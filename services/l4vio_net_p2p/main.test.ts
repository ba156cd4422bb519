import { readdirSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createGate } from '#common/ipc/capability';
import type { TaskEnv } from '#common/task/env';
import { TestTask } from '#common/testing/net_client';
import { testRunDir } from '#common/testing/run_dir';
import { main } from './main.ts';

/** Runs the program to its end; returns the exit status and all its lines. */
async function run(args: string[], env: Partial<TaskEnv> = {}): Promise<{ status: number; lines: string[] }> {
  const lines: string[] = [];
  vi.spyOn(console, 'log').mockImplementation((line: string) => void lines.push(line));
  vi.spyOn(console, 'error').mockImplementation((line: string) => void lines.push(line));
  const status = await main({
    argv: ['rom/l4vio_net_p2p', ...args],
    caps: new Map(),
    capNames: [],
    serverEnds: new Map(),
    signal: AbortSignal.abort(),
    ...env,
  } as unknown as TaskEnv);
  return { status, lines };
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('main()', () => {
  it('greets as the original and ends with 2 without svr', async () => {
    const { status, lines } = await run([]);
    expect(status).toBe(2);
    expect(lines.slice(0, 2)).toEqual([
      'Hello from l4vio_net_p2p',
      'Max number of buffers in virtqueue: 256',
    ]);
    expect(lines[2]).toMatch(/^error registering switch: there is no capability 'svr'/);
  });

  it('ends with 1 for a bad option', async () => {
    expect(await run(['-p', '-5'])).toMatchObject({ status: 1 });
    expect(await run(['-s', '3'])).toEqual({
      status: 1,
      lines: [
        'Hello from l4vio_net_p2p',
        'Max number of virtqueue buffers must be power of 2 between 1 and 32768. Invalid value: 3',
      ],
    });
  });

  it('throws ENOENT for a trusted dataspace that it has not', async () => {
    const running = run(['-d', 'ram'], { serverEnds: new Map([['svr', createGate()]]) });
    await expect(running).rejects.toMatchObject({ errno: 2, message: expect.stringContaining("'ram'") });
  });

  it('serves until it is asked to end, and ends with 0', async () => {
    using dir = testRunDir();
    const { ipc, arena, memories, doorbells } = new TestTask(dir.path, 'a');
    const { status, lines } = await run(['-p', '2000'], {
      ipc,
      arena,
      memories,
      doorbells,
      runDir: dir.path,
      serverEnds: new Map([['svr', createGate()]]),
    });
    ipc.close();
    expect([status, readdirSync(`${dir.path}/g`)]).toEqual([0, []]);
    expect(lines.at(-1)).toBe('Enable polling at interval 2000 usec');
  });
});
