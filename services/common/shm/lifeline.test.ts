import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFiles } from '#common/testing/open_files';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Lifeline, LifelineWatch } from './lifeline.ts';
import { FileLock } from './lock.ts';
import { randomName } from './run_dir.ts';

let dir: TestRunDir;
beforeEach(() => {
  dir = testRunDir();
});
afterEach(() => dir[Symbol.dispose]());

describe('LifelineWatch', () => {
  it('notices the end of the other side, from the event loop', async () => {
    const name = randomName();
    const lifeline = new Lifeline(dir.path, name);
    let ended = 0;
    const watch = new LifelineWatch(dir.path, name, () => {
      ended += 1;
    });
    expect([watch.check(), ended]).toEqual([true, 0]);
    lifeline.close();
    await expect.poll(() => ended).toBe(1);
    expect([watch.check(), existsSync(join(dir.path, 'b', name))]).toEqual([false, false]);
  });

  it('check() looks at once, and tells once', () => {
    const name = randomName();
    const lifeline = new Lifeline(dir.path, name);
    let ended = 0;
    const watch = new LifelineWatch(dir.path, name, () => {
      ended += 1;
    });
    lifeline.close();
    expect([watch.check(), watch.check(), ended]).toEqual([false, false, 1]);
  });

  it('leave() lets another watcher come', () => {
    const name = randomName();
    const lifeline = new Lifeline(dir.path, name);
    new LifelineWatch(dir.path, name, () => {}).leave();
    const second = new LifelineWatch(dir.path, name, () => {});
    expect(second.check()).toBe(true);
    lifeline.close();
    expect(second.check()).toBe(false);
  });

  it('refuses what is no name, and what is no FIFO; nothing stays open', () => {
    expect(() => new Lifeline(dir.path, '../x')).toThrow('32 hex digits');
    const name = randomName();
    const path = join(dir.path, 'b', name);
    writeFileSync(path, '');
    expect(() => new LifelineWatch(dir.path, name, () => {})).toThrow('not a FIFO');
    expect(openFiles(path)).toEqual([]);
  });
});

describe('FileLock', () => {
  it('is held by one, or shared by many, and ends with its release', () => {
    const path = join(dir.path, 'lock');
    expect(FileLock.isHeld(path)).toBe(false);
    const lock = FileLock.tryTake(path);
    expect([FileLock.tryTake(path), FileLock.isHeld(path)]).toEqual([undefined, true]);
    lock?.release();
    const [a, b] = [FileLock.tryTake(path, { shared: true }), FileLock.tryTake(path, { shared: true })];
    expect([a, b, FileLock.isHeld(path)]).toEqual([expect.anything(), expect.anything(), true]);
    a?.release();
    b?.release();
    expect(FileLock.isHeld(path)).toBe(false);
  });

  it('tells who holds it alone from who looks, and is the lock of the file that is there', () => {
    const path = join(dir.path, 'lock');
    const shared = FileLock.tryTake(path, { shared: true });
    expect([FileLock.isHeld(path), FileLock.isHeld(path, { alone: true })]).toEqual([true, false]);
    rmSync(path);
    const [first, second] = [FileLock.tryTake(path), FileLock.tryTake(path)];
    expect([first, second, FileLock.isHeld(path, { alone: true })]).toEqual([
      expect.anything(),
      undefined,
      true,
    ]);
    for (const lock of [shared, first]) lock?.release();
  });
});
