import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createGate, mint } from '#common/ipc/capability';
import { FileLock } from '#common/shm/lock';
import { openFiles } from '#common/testing/open_files';
import { testRunDir } from '#common/testing/run_dir';
import { findPublished, publish } from './publication.ts';

const capability = mint(createGate(), 7);

describe('publish()', () => {
  it('lets others find the object until it is closed, and leaves nothing', () => {
    using dir = testRunDir();
    const first = publish(dir.path, 'a'.repeat(32), { kind: 'switch', name: 'two', capability });
    const second = publish(dir.path, 'b'.repeat(32), { kind: 'switch', name: 'one', capability });
    const other = publish(dir.path, 'c'.repeat(32), { kind: 'wire', name: 'x', capability });
    expect(findPublished(dir.path, 'switch')).toEqual([
      { kind: 'switch', name: 'one', capability: { ...capability, proof: Buffer.from(capability.proof) } },
      { kind: 'switch', name: 'two', capability: { ...capability, proof: Buffer.from(capability.proof) } },
    ]);
    for (const object of [first, second, other]) object.close();
    expect(findPublished(dir.path, 'switch')).toEqual([]);
    expect(readdirSync(join(dir.path, 'c'))).toEqual([]);
  });

  it('takes the place of what the same task had published in an earlier life', () => {
    using dir = testRunDir();
    const task = 'a'.repeat(32);
    const before = JSON.stringify({
      kind: 'switch',
      name: 'old',
      capability: { ...capability, proof: '00' },
    });
    writeFileSync(join(dir.path, 'c', task), before);
    const now = publish(dir.path, task, { kind: 'switch', name: 'new', capability });
    expect(findPublished(dir.path, 'switch').map(({ name }) => name)).toEqual(['new']);
    now.close();
  });

  it('leaves neither file nor lock when it fails', () => {
    using dir = testRunDir();
    const task = 'a'.repeat(32);
    mkdirSync(join(dir.path, 'c', task));
    const object = { kind: 'switch', name: 'x', capability };
    expect(() => publish(dir.path, task, object)).toThrow('EISDIR');
    expect(readdirSync(join(dir.path, 'c'))).toEqual([task]);
    expect(openFiles(dir.path)).toEqual([]);
  });
});

describe('findPublished()', () => {
  it('does not take another who looks for the task itself', () => {
    using dir = testRunDir();
    const task = 'd'.repeat(32);
    const proof = Buffer.from(capability.proof).toString('hex');
    const text = JSON.stringify({ kind: 'switch', name: 'dead', capability: { ...capability, proof } });
    writeFileSync(join(dir.path, 'c', task), text);
    const looks = FileLock.tryTake(join(dir.path, 'c', task), { shared: true });
    expect(findPublished(dir.path, 'switch')).toEqual([]);
    looks?.release();
  });

  it('passes over files whose task is dead, and a run directory that has none', () => {
    using dir = testRunDir();
    const proof = Buffer.from(capability.proof).toString('hex');
    const text = JSON.stringify({ kind: 'switch', name: 'dead', capability: { ...capability, proof } });
    writeFileSync(join(dir.path, 'c', 'd'.repeat(32)), text);
    expect(findPublished(dir.path, 'switch')).toEqual([]);
    expect(findPublished(join(dir.path, 'missing'), 'switch')).toEqual([]);
  });
});
