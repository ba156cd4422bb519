import { afterEach, describe, expect, it, vi } from 'vitest';
import { createGate } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import type { TaskEnv } from '#common/task/env';
import { testRunDir } from '#common/testing/run_dir';
import { main } from './main.ts';

/** Runs the program to its end; returns the exit status and all its lines. */
async function run(
  argv: string[],
  env: Partial<TaskEnv> = {},
  onError: () => void = () => {},
): Promise<{ status: number; lines: string[] }> {
  const lines: string[] = [];
  vi.spyOn(console, 'log').mockImplementation((line: string) => void lines.push(line));
  vi.spyOn(console, 'error').mockImplementation((line: string) => {
    lines.push(line);
    onError();
  });
  const status = await main({
    argv,
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
  it('greets with its arguments and ends with 2 without svr', async () => {
    const { status, lines } = await run(['rom/l4vio_switch', '-p', '5']);
    expect(status).toBe(2);
    expect(lines.slice(0, 5)).toEqual([
      'SWI: Arguments:',
      'SWI: \trom/l4vio_switch',
      'SWI: \t-p',
      'SWI: \t5',
      'Hello from l4virtio switch',
    ]);
    expect(lines[5]).toMatch(/^VSwitch: FATAL: error registering switch/);
  });

  it('ends with 1 for a bad option', async () => {
    expect(await run(['rom/l4vio_switch', '-s', '100'])).toEqual({
      status: 1,
      lines: [
        "VSwitch: FATAL: Cannot set the queue size as it must be a power of two 1..32768: current value is '100'",
        'VSwitch: FATAL: Error during command line parsing.',
      ],
    });
  });

  it('says what it ignores', async () => {
    const { lines } = await run(['rom/l4vio_switch', '-D', 'loud']);
    expect(lines.at(-2)).toMatch(/^SWI: Ignoring debug level 'loud'/);
  });

  it('is silent with -q, but for errors', async () => {
    const { lines } = await run(['rom/l4vio_switch', '-q']);
    expect(lines).toHaveLength(1);
  });

  it('throws ENOENT for a trusted dataspace that it has not', async () => {
    const running = run(['rom/l4vio_switch', '-d', 'ram'], { serverEnds: new Map([['svr', createGate()]]) });
    await expect(running).rejects.toMatchObject({ errno: 2, message: expect.stringContaining("'ram'") });
  });

  it('serves without a NIC when nobody can start the driver, and ends with 0 when asked to', async () => {
    using dir = testRunDir();
    const ipc = new Ipc({ runDir: dir.path, task: 'a'.repeat(32) });
    const arena = new Arena(2 ** 24);
    const stop = new AbortController();
    const env = {
      ipc,
      task: 'a'.repeat(32),
      name: 'l4vio_switch',
      runDir: dir.path,
      arena,
      memories: new SharedMemories(dir.path, arena),
      doorbells: new Doorbells(dir.path),
      signal: stop.signal,
      serverEnds: new Map([['svr', createGate()]]),
      caps: new Map([['vbus', { gate: '', object: 0, masks: [], proof: new Uint8Array(16) }]]),
    };
    const { status, lines } = await run(['rom/l4vio_switch'], env, () => setImmediate(() => stop.abort()));
    ipc.close();
    expect(status).toBe(0);
    expect(lines.at(-1)).toMatch(
      /^VSwitch: ERROR: The switch works without the NIC of 'vbus': this task has no parent/,
    );
  });
});
