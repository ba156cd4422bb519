import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { Files } from '#common/task/files';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Namespace } from '../../proto/gen/services.js';
import { Rom } from './rom.ts';

describe('Rom', () => {
  let base: string;
  let rom: Rom;

  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'l4lab-rom-'));
    for (const dir of ['a', 'b', 'a/sub', 'a/io']) mkdirSync(join(base, dir));
    writeFileSync(join(base, 'secret'), 'secret');
    writeFileSync(join(base, 'a', 'x.cfg'), 'from a');
    writeFileSync(join(base, 'b', 'x.cfg'), 'from b');
    writeFileSync(join(base, 'b', 'y.cfg'), 'y');
    writeFileSync(join(base, 'a', 'sub', 'z'), 'z');
    writeFileSync(join(base, 'b', 'curl'), '\x7fELF...');
    symlinkSync(join(base, 'b', 'y.cfg'), join(base, 'a', 'link'));
    rom = new Rom([join(base, 'a'), join(base, 'b')], ['io', 'curl']);
  });
  afterEach(() => rmSync(base, { recursive: true, force: true }));

  it('goes on when a directory has been taken away', () => {
    rmSync(join(base, 'a'), { recursive: true });
    expect(rom.list()).toEqual(['curl', 'io', 'x.cfg', 'y.cfg']);
    expect(rom.lookup('x.cfg')).toEqual({ path: join(base, 'b', 'x.cfg') });
  });

  it('lookup() takes the first directory that has the file', () => {
    expect(rom.lookup('x.cfg')).toEqual({ path: join(base, 'a', 'x.cfg') });
    expect(rom.lookup('y.cfg')).toEqual({ path: join(base, 'b', 'y.cfg') });
    expect(rom.lookup('sub/z')).toEqual({ path: join(base, 'a', 'sub', 'z') });
    expect(rom.lookup('link')).toEqual({ path: join(base, 'a', 'link') });
  });

  it('lookup() finds built-in programs behind directories and ELF files of their names', () => {
    expect(rom.lookup('io')).toEqual({ builtin: 'io' });
    expect(rom.lookup('curl')).toEqual({ builtin: 'curl' });
  });

  it.each([
    '../secret',
    'sub/../../secret',
    '/etc/passwd',
    '',
    '.',
    'sub',
    'sub/',
    'x.cfg\0',
    'nosuch',
    '..',
    'x.cfg/y',
    'x'.repeat(300),
  ])('lookup(%j) finds nothing', (name) => expect(rom.lookup(name)).toBeUndefined());

  it('list() has files and programs', () => {
    expect(rom.list()).toEqual(['curl', 'io', 'link', 'x.cfg', 'y.cfg']);
  });

  describe('as a capability', () => {
    let dir: TestRunDir;
    let ipc: Ipc;
    let files: Files;

    beforeEach(async () => {
      dir = testRunDir();
      ipc = new Ipc({ runDir: dir.path, task: 'c'.repeat(32) });
      const gate = await ipc.serve(createGate());
      files = new Files(ipc, new Map([['rom', rom.serve(gate)]]));
    });
    afterEach(() => {
      ipc.close();
      dir[Symbol.dispose]();
    });

    it('gives files and programs', async () => {
      expect(Buffer.from(await files.read('rom/x.cfg')).toString()).toBe('from a');
      expect(await files.info('rom/io')).toMatchObject({ path: '', builtin: 'io' });
      expect(await files.info('rom/y.cfg')).toMatchObject({
        path: join(base, 'b', 'y.cfg'),
        builtin: '',
        size: 1,
      });
    });

    it('reads files longer than one message', async () => {
      const long = Buffer.alloc(2.5 * 2 ** 20, 'abc');
      writeFileSync(join(base, 'a', 'long'), long);
      expect(long.equals(await files.read('rom/long'))).toBe(true);
    });

    it('says when a file was changed', async () => {
      utimesSync(join(base, 'a', 'x.cfg'), 1, 1_700_000_000.5);
      expect(await files.info('rom/x.cfg')).toMatchObject({ size: 6, modified: 1_700_000_000_500 });
    });

    it('has directories as namespaces of their own', async () => {
      mkdirSync(join(base, 'b', 'sub', 'deep'), { recursive: true });
      writeFileSync(join(base, 'b', 'sub', 'z'), 'hidden by a');
      writeFileSync(join(base, 'b', 'sub', 'deep', 'y'), 'deep');
      const sub = ipc.client(Namespace, await files.resolve('rom/sub'));
      expect((await sub.list()).names).toEqual(['deep/', 'z']);
      const { capability } = await sub.query({ name: 'deep/y' });
      const inside = new Files(ipc, new Map([['y', capability as Capability]]));
      expect(Buffer.from(await inside.read('y')).toString()).toBe('deep');
      for (const name of ['..', '../x.cfg', 'deep/../z', '', 'nosuch'])
        await expect(sub.query({ name })).rejects.toMatchObject({ errno: 2 });
      await expect(sub.register({ name: 'new' })).rejects.toThrow(/rights|read-only/);
      await expect(files.read('rom/sub')).rejects.toThrow();
    });

    it('says where it has looked', async () => {
      await expect(files.read('rom/nosuch')).rejects.toMatchObject({
        errno: 2,
        message: `Cannot find 'nosuch' in rom as there is no such file (searched: ${base}/a, ${base}/b); l4lab run --rom DIR adds a directory`,
      });
      await expect(files.read('rom/IO')).rejects.toThrow(/; did you mean 'io'\?$/);
    });
  });
});
