import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { Ipc } from '#common/ipc/ipc';
import { testRunDir } from '#common/testing/run_dir';
import { Rom } from './rom.ts';
import { ScriptFiles } from './script_files.ts';

it('readStdin() gives lines, bytes and the rest; 0 bytes as long as there are some', async () => {
  using dir = testRunDir();
  const ipc = new Ipc({ runDir: dir.path, task: 'a'.repeat(32) });
  const input = new PassThrough();
  const files = new ScriptFiles(ipc, new Map(), new Rom([], []), () => input);
  const read = async (format: string | number) => (await files.readStdin(format))?.toString();
  input.write('one\ntwo\nthr');
  const nothing = read(0);
  expect(await nothing).toBe('');
  expect([await read('l'), await read(2), await read(0), await read('l')]).toEqual([
    'one\n',
    'tw',
    '',
    'o\n',
  ]);
  input.end('ee');
  expect([await read(100), await read(0), await read('l'), await read('a')]).toEqual([
    'three',
    undefined,
    undefined,
    '',
  ]);
  ipc.close();
});
