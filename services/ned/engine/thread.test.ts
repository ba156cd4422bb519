import { describe, expect, it } from 'vitest';
import { toHostError } from '../host_error.ts';
import type { LuaValue } from './marshal.ts';
import { startInterpreter } from './thread.ts';

/** Runs a script in a real thread; operations that the test does not give return nothing. */
function start(
  source: string,
  operations: Record<string, (args: LuaValue[]) => LuaValue[] | Promise<LuaValue[]>>,
) {
  const thread = startInterpreter({ statements: [], script: 'rom/test.cfg', args: [] });
  thread.serve(async (name, args) => {
    if (operations[name]) return operations[name](args);
    if (name === 'info') return [{ kip: 'kip', arch: 'amd64', platform: 'pc' }];
    if (name === 'env') return [{ rom: 1, factory: 2, mem_alloc: 3 }];
    if (name === 'read_script') return [Buffer.from(source)];
    return [];
  }, toHostError);
  return thread;
}

describe('startInterpreter()', () => {
  it('blocks the script in an operation until the main thread has done it', async () => {
    const written: LuaValue[] = [];
    const thread = start('local L4 = require "L4" L4.msleep(30) print("after")', {
      write: ([, text]) => {
        written.push(text);
        return [];
      },
      sleep: ([ms]) => new Promise((resolve) => setTimeout(() => resolve([]), Number(ms))),
    });
    await thread.ended;
    expect(written).toEqual(['Ned: Sleeping 30ms\n', 'after\n']);
  });

  it('terminate() ends a script in an endless loop', async () => {
    let loading = () => {};
    const started = new Promise<void>((resolve) => {
      loading = resolve;
    });
    const thread = start('while true do end', {
      loading: () => {
        setTimeout(loading, 50);
        return [];
      },
    });
    await started;
    await thread.terminate();
    await thread.ended;
  });

  it('terminate() ends a script that waits for an operation', async () => {
    let waiting = () => {};
    const blocked = new Promise<void>((resolve) => {
      waiting = resolve;
    });
    const thread = start('local L4 = require "L4" L4.sleep(1000)', {
      sleep: () => {
        waiting();
        return new Promise<LuaValue[]>(() => {});
      },
    });
    await blocked;
    await thread.terminate();
    await thread.ended;
  });
});
