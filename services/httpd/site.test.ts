import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { bind } from '#common/ipc/service';
import { Files } from '#common/task/files';
import { TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Dataspace, Namespace } from '../../proto/gen/services.js';
import { CapabilitySite } from './site.ts';

let dir: TestRunDir;
let task: TestTask;
let gate: Gate;
let site: CapabilitySite;

/** A file, or a program if `builtin` is a name; `bytes` are what it has, `size` what it says. */
function file(bytes: Buffer, { size = bytes.length, builtin = '' } = {}): Capability {
  return gate.export([
    bind(Dataspace, {
      info: () => ({ size, builtin, modified: 1000, path: '', writable: false }),
      copyOut: ({ offset, size: length }) => ({ data: bytes.subarray(offset, offset + length) }),
      map: () => ({}),
    }),
  ]);
}

function directory(entries: Record<string, Capability>, listed = Object.keys(entries)): Capability {
  return gate.export([
    bind(Namespace, {
      query: async ({ name }) => {
        const [first = '', ...rest] = name.split('/');
        const found = entries[first];
        if (found === undefined) throw new L4Error('ENOENT', `Cannot find ${first}`);
        if (rest.length === 0) return { capability: found };
        return task.ipc.client(Namespace, found).query({ name: rest.join('/') });
      },
      list: () => ({ names: listed }),
      register: () => ({}),
    }),
  ]);
}

const LONG = Buffer.alloc(600_000, 'abcdefg');

beforeEach(async () => {
  dir = testRunDir();
  task = new TestTask(dir.path, 'a');
  gate = await task.ipc.serve(createGate());
  const sub = directory({ inner: file(Buffer.from('inner')) });
  const entries = {
    long: file(LONG),
    cut: file(LONG, { size: 700_000 }),
    curl: file(Buffer.alloc(0), { builtin: 'curl' }),
    sub,
    other: gate.export([]),
  };
  const rom = directory(entries, [...Object.keys(entries), 'deep/', 'gone']);
  site = new CapabilitySite({ ipc: task.ipc, files: new Files(task.ipc, new Map([['rom', rom]])) }, 'rom');
});

afterEach(() => {
  task.close();
  dir[Symbol.dispose]();
});

async function read(names: string[], start: number, end: number): Promise<Buffer> {
  const found = await site.find(names);
  if (found?.kind !== 'file') throw new Error(`${names} is no file`);
  const pieces: Uint8Array[] = [];
  for await (const piece of found.read(start, end)) pieces.push(piece);
  return Buffer.concat(pieces);
}

describe('CapabilitySite', () => {
  it('finds files and reads any part of them', async () => {
    expect(await site.find(['long'])).toMatchObject({
      kind: 'file',
      name: 'long',
      size: 600_000,
      modified: 1000,
    });
    expect((await read(['long'], 0, 600_000)).equals(LONG)).toBe(true);
    expect((await read(['long'], 262_143, 524_290)).equals(LONG.subarray(262_143, 524_290))).toBe(true);
    expect((await read(['sub', 'inner'], 0, 5)).toString()).toBe('inner');
  });

  it('lists directories: no programs, nothing that is gone or something else', async () => {
    const root = await site.find([]);
    expect(root?.kind === 'directory' && (await root.list())).toEqual([
      { name: 'long', size: 600_000 },
      { name: 'cut', size: 700_000 },
      { name: 'sub/', size: undefined },
      { name: 'deep/', size: undefined },
    ]);
  });

  it.each([[['nosuch']], [['curl']], [['other']], [['long', 'x']], [['sub', 'x']]])(
    'has nothing at %j',
    async (names) => {
      expect(await site.find(names)).toBeUndefined();
    },
  );

  it('says when a file became shorter', async () => {
    await expect(read(['cut'], 0, 700_000)).rejects.toThrow(
      'Cannot read byte 600000 of a file as it has become shorter',
    );
  });
});
