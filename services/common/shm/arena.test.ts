import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Arena } from './arena.ts';
import { SharedMemories } from './dataspace.ts';
import { mkfifo } from './libc.ts';

const MIB = 2 ** 20;

describe('Arena', () => {
  it('maps private memory zeroed, in disjoint pages', () => {
    const arena = new Arena(MIB);
    const [a, b] = [arena.mapPrivate(5000), arena.mapPrivate(1)];
    expect([a % 4096, b % 4096, b - a]).toEqual([0, 0, 8192]);
    arena.u8[a + 4999] = 7;
    expect([arena.u8[a + 4999], arena.u8[b]]).toEqual([7, 0]);
  });

  it('uses unmapped ranges again, joined, and they read as zeros', () => {
    const arena = new Arena(4 * 4096);
    const pages = [0, 1, 2, 3].map(() => arena.mapPrivate(4096));
    expect(() => arena.mapPrivate(1)).toThrow('has no such free range');
    arena.u8[pages[1] as number] = 9;
    for (const n of [1, 3, 2]) arena.unmap(pages[n] as number, 4096);
    expect(arena.u8[pages[1] as number]).toBe(0);
    expect(arena.mapPrivate(3 * 4096)).toBe(pages[1]);
  });

  it('refuses to be larger than small integers reach', () => {
    expect(() => new Arena(2 ** 31)).toThrow('must be 1..2147479552 bytes');
  });
});

describe('SharedMemories', () => {
  let dir: TestRunDir;
  let memories: SharedMemories;
  let arena: Arena;

  beforeEach(() => {
    dir = testRunDir();
    arena = new Arena(64 * MIB);
    memories = new SharedMemories(dir.path, arena);
  });
  afterEach(() => {
    memories.close();
    dir[Symbol.dispose]();
  });

  it('create() and open() see the same bytes; close() removes the file', () => {
    const mine = memories.create(5000);
    const theirs = memories.open(mine.ref);
    expect([mine.size, theirs.size]).toEqual([8192, 8192]);
    arena.u8[mine.offset + 5] = 42;
    expect(arena.u8[theirs.offset + 5]).toBe(42);
    theirs.close();
    expect(readdirSync(join(dir.path, 'm'))).toEqual([mine.ref.name]);
    mine.close();
    mine.close();
    expect(readdirSync(join(dir.path, 'm'))).toEqual([]);
  });

  it('open() refuses names that are paths, odd sizes and files that are too short', () => {
    const { ref } = memories.create(4096);
    expect(() => memories.open({ ...ref, name: '../../etc/passwd' })).toThrow('must be 32 hex digits');
    expect(() => memories.open({ ...ref, name: 'f'.repeat(32) })).toThrow('none of that name');
    for (const size of [0, 5, -4096, 2 ** 60, Number.NaN]) {
      expect(() => memories.open({ ...ref, size }), String(size)).toThrow(/Cannot map dataspace/);
    }
    expect(() => memories.open({ ...ref, size: 8192 })).toThrow('it has 4096');
  });

  it('open() neither waits for what is no file, nor follows a link', () => {
    const { ref } = memories.create(4096);
    const [fifo, link, folder] = ['e', 'd', 'c'].map((digit) => digit.repeat(32)) as [string, string, string];
    mkfifo(join(dir.path, 'm', fifo), 0o600);
    symlinkSync(join(dir.path, 'm', ref.name), join(dir.path, 'm', link));
    mkdirSync(join(dir.path, 'm', folder));
    for (const writable of [false, true]) {
      expect(() => memories.open({ ...ref, writable, name: fifo })).toThrow('it is not a file');
      expect(() => memories.open({ ...ref, writable, name: link })).toThrow('none of that name');
      expect(() => memories.open({ ...ref, writable, name: folder })).toThrow(/not a file|none of that name/);
    }
  });

  it('create() says clearly that the file system is full, and leaves nothing', () => {
    expect(() => memories.create(2 ** 45)).toThrow(/ENOSPC|is full|EFBIG/);
    expect(readdirSync(join(dir.path, 'm'))).toEqual([]);
  });

  it('a read-only mapping shows what the owner writes', () => {
    const mine = memories.create(4096, false);
    const theirs = memories.open(mine.ref);
    arena.u32[mine.offset >> 2] = 0xdeadbeef;
    expect(arena.u32[theirs.offset >> 2]).toBe(0xdeadbeef);
  });

  it('mapFile() of an ordinary file reads its bytes', () => {
    const scratch = mkdtempSync('/tmp/l4lab-arena-');
    const path = join(scratch, 'f');
    writeFileSync(path, 'hello'.padEnd(4096));
    const fd = openSync(path, 'r');
    const offset = arena.mapFile(fd, 4096, false);
    closeSync(fd);
    expect(Buffer.from(arena.u8.subarray(offset, offset + 5)).toString()).toBe('hello');
    rmSync(scratch, { recursive: true });
    expect(existsSync(scratch)).toBe(false);
  });
});
