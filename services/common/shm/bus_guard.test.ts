/** Files that are truncated while they are mapped. Whether the process lives on is the first thing that is tested. */
import { spawnSync } from 'node:child_process';
import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Arena } from './arena.ts';
import { handlerCode } from './bus_handler.ts';
import { type Mapping, SharedMemories } from './dataspace.ts';

const SIZE = 16 * 4096;
let dir: TestRunDir;
let arena: Arena;
let memories: SharedMemories;
let peer: SharedMemories;

beforeEach(() => {
  dir = testRunDir();
  arena = new Arena(2 ** 24);
  memories = new SharedMemories(dir.path, arena);
  peer = new SharedMemories(dir.path, new Arena(2 ** 24));
});

afterEach(() => {
  memories.close();
  peer.close();
  dir[Symbol.dispose]();
});

function truncate({ ref }: Mapping, bytes: number): void {
  truncateSync(join(dir.path, 'm', ref.name), bytes);
}

/** What the peer has made, as we map it: filled with sevens. */
function shared(): Mapping {
  const theirs = peer.create(SIZE);
  const mine = memories.open(theirs.ref);
  arena.u8.fill(7, mine.offset, mine.offset + SIZE);
  return mine;
}

describe.runIf(['x64', 'arm64'].includes(process.arch))('a mapping whose file is truncated', () => {
  it.each([
    ['read', (at: number) => arena.u8[at]],
    ['read as a word, with Atomics', (at: number) => Atomics.load(arena.i32, at / 4)],
    ['copied out of', (at: number) => arena.u8.slice(at, at + 4096).reduce((a, b) => a + b)],
  ])('is zeros when it is %s, as a whole', (_how, touch) => {
    const [before, mine, after] = [shared(), shared(), shared()];
    const { losses } = arena;
    truncate(mine, 4096);
    expect([arena.u8[mine.offset], mine.lost]).toEqual([7, false]);
    expect(touch(mine.offset + SIZE - 4096)).toBe(0);
    expect([arena.u8[mine.offset], mine.lost, arena.losses - losses]).toEqual([0, true, 1]);
    for (const other of [before, after]) {
      expect([arena.u8[other.offset], arena.u8[other.offset + SIZE - 1], other.lost]).toEqual([7, 7, false]);
    }
  });

  it('takes what is written and shows it to nobody', () => {
    const mine = shared();
    truncate(mine, 0);
    arena.u8.fill(5, mine.offset, mine.offset + SIZE);
    expect([arena.u8[mine.offset], arena.u8[mine.offset + SIZE - 1], mine.lost]).toEqual([5, 5, true]);
    truncate(mine, SIZE);
    expect(arena.u8[memories.open(mine.ref).offset]).toBe(0);
  });

  it('can be closed, and others take its place unharmed', () => {
    for (let n = 0; n < 200; n++) {
      const [mine, kept] = [shared(), shared()];
      truncate(mine, 0);
      expect(arena.u8[mine.offset]).toBe(0);
      mine.close();
      expect([mine.lost, kept.lost, arena.u8[kept.offset]]).toEqual([false, false, 7]);
      kept.close();
      peer.close();
    }
  });
});

it('handlerCode() is there for two architectures, with the address of the table in it', () => {
  const table = 0x7f12_3456_7000;
  const address = Buffer.from('00705634127f0000', 'hex');
  const [x64, arm64] = ['x64', 'arm64'].map((arch) => Buffer.from(handlerCode(arch)?.(table) ?? []));
  expect([x64?.indexOf(address), x64?.lastIndexOf(address)]).toEqual([6, 102]);
  // Loaded relative to the second instruction: 33 words further, where the code ends.
  expect([arm64?.readUInt32LE(4), arm64?.indexOf(address), arm64?.length]).toEqual([0x5800042c, 136, 144]);
  expect(handlerCode('riscv64')).toBeUndefined();
});

it('SIGBUS for another reason still ends the process', () => {
  const script = `
    import { mkdtempSync, openSync, rmSync, truncateSync } from 'node:fs';
    import * as libc from '#common/shm/libc';
    import { Arena } from '#common/shm/arena';
    const dir = mkdtempSync('/dev/shm/l4lab-test-');
    const fd = openSync(dir + '/f', 'w+');
    truncateSync(dir + '/f', 4096);
    new Arena(2 ** 20).mapFile(fd, 4096, true);
    const unguarded = libc.mmap(0, 4096, 1, libc.MAP_SHARED, fd, 0);
    truncateSync(dir + '/f', 0);
    rmSync(dir, { recursive: true });
    console.log(new Uint8Array(libc.viewMemory(unguarded, 4096))[0]);`;
  const root = join(import.meta.dirname, '..', '..', '..');
  const args = ['--input-type=module', '--eval', script];
  const { signal, stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  expect({ signal, stdout }).toEqual({ signal: 'SIGBUS', stdout: '' });
});
