import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { mkfifo } from '#common/shm/libc';
import { EpollSet } from './epoll_set.ts';

const IN = 1;
const OUT = 2;
const errors: string[] = [];
let dir: string;
let set: EpollSet;
let fds: number[];

/** Opens a FIFO read-write: readable as soon as something was written to it. */
function fifo(name: string): number {
  const path = join(dir, name);
  mkfifo(path, 0o600);
  const fd = openSync(path, 'r+');
  fds.push(fd);
  return fd;
}

/** A FIFO with that number, which somebody else of this process may have taken, or a lower one, for a moment. */
function fifoAt(number: number, name: string): number {
  for (let n = 0; n < 100; n++) {
    const fd = fifo(`${name}${n}`);
    if (fd === number) return fd;
  }
  throw new Error(`no descriptor has the number ${number}`);
}

/** One round of wishes; the indices they got. */
function wish(...wishes: [number, number][]): number[] {
  set.begin();
  const indices = wishes.map(([fd, events]) => set.want(fd, events));
  set.commit();
  return indices;
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'l4lab-epoll-'));
  fds = [];
  errors.length = 0;
  set = new EpollSet(new Arena(2 ** 20), (text) => errors.push(text));
});

afterEach(() => {
  set.close();
  for (const fd of fds) closeSync(fd);
  rmSync(dir, { recursive: true });
  expect(errors).toEqual([]);
});

describe('EpollSet', () => {
  it('reports what is wanted and ready, by index, until cleared', () => {
    const [a, b] = [fifo('a'), fifo('b')];
    writeSync(b, 'x');
    const [atA = -1, atB = -1] = wish([a, IN], [b, IN]);
    expect([set.peek(8), set.ready(atA), set.ready(atB)]).toEqual([1, 0, IN]);
    set.clear();
    expect(set.ready(atB)).toBe(0);
  });

  it('follows changes of what is wanted', () => {
    const a = fifo('a');
    wish([a, IN]);
    expect(set.peek(8)).toBe(0);
    const [at = -1] = wish([a, IN | OUT]);
    expect([set.peek(8), set.ready(at), set.size]).toEqual([1, OUT, 1]);
    wish();
    expect([set.peek(8), set.size]).toEqual([0, 0]);
  });

  it('reports at most as many as asked for, and the others next time', () => {
    const all = Array.from({ length: 6 }, (_, i) => fifo(`f${i}`));
    for (const fd of all) writeSync(fd, 'x');
    const indices = wish(...all.map((fd): [number, number] => [fd, IN]));
    const seen = new Set<number>();
    for (let round = 0; round < 3; round++) {
      expect(set.peek(2)).toBe(2);
      for (const index of indices) if (set.ready(index) !== 0) seen.add(index);
      set.clear();
    }
    expect(seen.size).toBe(6);
  });

  it('takes more descriptors than it began with, and numbers that are used again', () => {
    const many = Array.from({ length: 150 }, (_, i) => fifo(`f${i}`));
    wish(...many.map((fd): [number, number] => [fd, IN]));
    expect(set.size).toBe(150);
    const last = fds.pop() as number;
    set.forget(last);
    closeSync(last);
    const again = fifoAt(last, 'again');
    writeSync(again, 'x');
    const [at = -1] = wish([again, IN]);
    expect([set.size, set.peek(8), set.ready(at)]).toEqual([1, 1, IN]);
  });

  it('recovers when a descriptor was closed behind its back', () => {
    const a = fifo('a');
    wish([a, IN]);
    closeSync(fds.pop() as number);
    const b = fifoAt(a, 'b');
    writeSync(b, 'x');
    const [at = -1] = wish([b, IN | OUT]);
    expect([set.peek(8), set.ready(at)]).toEqual([1, IN | OUT]);
  });
});
