import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate, narrow, RIGHT_R } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Dataspace, Factory, Log, Meta, Namespace } from '../../proto/gen/services.js';
import { PROTO, serveFactory } from './factory.ts';
import { LogSink, LogTags } from './log.ts';
import { References } from './references.ts';

const NED = 'a'.repeat(32);
const CLIENT = 'c'.repeat(32);

describe('factory', () => {
  let dir: TestRunDir;
  let ned: Ipc;
  let client: Ipc;
  let root: Capability;
  let tags: LogTags;
  let lines: string[];
  let memories: SharedMemories;

  beforeEach(async () => {
    dir = testRunDir();
    lines = [];
    ned = new Ipc({ runDir: dir.path, task: NED });
    client = new Ipc({ runDir: dir.path, task: CLIENT });
    const arena = new Arena(64 * 2 ** 20);
    memories = new SharedMemories(dir.path, arena);
    tags = new LogTags(new LogSink({ write: async (line) => void lines.push(String(line)) }));
    const gate = await ned.serve(createGate());
    root = serveFactory({
      gate,
      ipc: ned,
      references: new References(ned),
      memories,
      arena,
      tags,
      iommu: undefined,
    });
  });
  afterEach(() => {
    client.close();
    ned.close();
    memories.close();
    dir[Symbol.dispose]();
  });

  async function create(type: number, args: (string | number)[] = [], factory = root): Promise<Capability> {
    const list: m.IFactoryArgument[] = args.map((arg) =>
      typeof arg === 'number' ? { number: String(arg) } : { text: arg },
    );
    const reply = await client.client(Factory, factory).create({ type, arguments: [...list, { nil: true }] });
    return reply.object as Capability;
  }

  it.each([
    [PROTO.DATASPACE, [], 22],
    [PROTO.DATASPACE, ['big'], 22],
    [PROTO.DATASPACE, [0], 22],
    [PROTO.FACTORY, [], 22],
    [PROTO.FACTORY, [0], 22],
    [PROTO.FACTORY, [-1], 22],
    [PROTO.LOG, [], 22],
    [PROTO.LOG, [5], 22],
    [PROTO.SCHEDULER, [5, 5], 22],
    [PROTO.SCHEDULER, [], 22],
    [PROTO.SCHEDULER, [256, 5], 34],
    [PROTO.DMA_SPACE, [], 19],
    [PROTO.IPC_GATE, [], 19],
    [4711, [], 19],
  ])('create(%i, %j) fails with -%i', async (type, args, errno) => {
    await expect(create(type, args)).rejects.toMatchObject({ errno });
  });

  it('makes dataspaces that can be mapped and read, writable with the right to', async () => {
    const cap = await create(PROTO.DATASPACE, [5000]);
    const dataspace = client.client(Dataspace, cap);
    expect(await dataspace.info()).toMatchObject({ size: 8192, writable: true });
    const { memory } = await dataspace.map({ offset: 0, size: 4096 });
    const mapping = memories.open(memory ?? {});
    mapping.close();
    expect((await dataspace.copyOut({ offset: 8190, size: 100 })).data).toHaveLength(2);
    const readOnly = client.client(Dataspace, narrow(cap, RIGHT_R));
    expect((await readOnly.map({ offset: 0, size: 4096 })).memory).toMatchObject({ writable: false });
    await expect(dataspace.map({ offset: 8192, size: 1 })).rejects.toMatchObject({ errno: 34 });
  });

  it('a factory with a quota makes no more than that', async () => {
    const sub = await create(PROTO.FACTORY, [10_000]);
    const first = await create(PROTO.DATASPACE, [8000], sub);
    await expect(create(PROTO.DATASPACE, [8000], sub)).rejects.toMatchObject({ errno: 12 });
    await client.client(Meta, first).release({ task: CLIENT });
    await create(PROTO.DATASPACE, [8000], sub);
    await expect(create(PROTO.SCHEDULER, [20, 10], sub)).rejects.toMatchObject({ errno: 19 });
  });

  it('a factory of a factory gives no more than both have', async () => {
    const outer = await create(PROTO.FACTORY, [20_000]);
    const inner = await create(PROTO.FACTORY, [1_000_000], outer);
    const first = await create(PROTO.DATASPACE, [16_000], inner);
    await expect(create(PROTO.DATASPACE, [8000], inner)).rejects.toMatchObject({ errno: 12 });
    await expect(create(PROTO.DATASPACE, [8000], outer)).rejects.toMatchObject({ errno: 12 });
    await client.client(Meta, first).release({ task: CLIENT });
    // What fails for another reason takes nothing away.
    const big = await create(PROTO.FACTORY, [2 ** 52]);
    for (let n = 0; n < 2; n++)
      await expect(create(PROTO.DATASPACE, [2 ** 51 + 1], big)).rejects.not.toThrow(/quota/);
    await create(PROTO.DATASPACE, [8000], outer);
  });

  it('makes logs with tag and colour that can be written to', async () => {
    const cap = await create(PROTO.LOG, ['net', 'Green']);
    expect(tags.get(cap)).toEqual({ tag: 'net', color: 10 });
    await client.client(Log, cap).write({ data: Buffer.from('hello\n') });
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ tag: 'net', text: 'hello', color: 10 }]);
    expect(tags.get(await create(PROTO.LOG, ['x']))).toEqual({ tag: 'x', color: 7 });
    expect(tags.get(await create(PROTO.LOG, ['x', 'q']))).toEqual({ tag: 'x', color: 0 });
  });

  it('makes namespaces whose entries live as long as they', async () => {
    const names = client.client(Namespace, await create(PROTO.NAMESPACE));
    const entry = await create(PROTO.DATASPACE, [4096]);
    await names.register({ name: 'a', capability: entry });
    await client.client(Meta, entry).release({ task: CLIENT });
    const { capability } = await names.query({ name: 'a' });
    expect((await client.client(Dataspace, capability as Capability).info()).size).toBe(4096);
    await client.client(Meta, entry).release({ task: CLIENT });
    await names.register({ name: 'a' });
    await expect
      .poll(() =>
        client
          .client(Dataspace, entry)
          .info()
          .catch((err) => err.code),
      )
      .toBe('IPC_OBJECT_GONE');
    await expect(names.query({ name: 'a' })).rejects.toMatchObject({ errno: 2 });
  });

  it('a namespace inside of itself does not keep it busy', async () => {
    const cap = await create(PROTO.NAMESPACE);
    const names = client.client(Namespace, cap);
    await names.register({ name: 'a', capability: cap });
    expect((await names.query({ name: 'a/a/a' })).capability).toMatchObject({ object: cap.object });
    await expect(names.query({ name: 'a/'.repeat(100_000) })).rejects.toMatchObject({
      errno: 36,
      message: expect.stringMatching(/at most 1024 characters: current length is 200000/),
    });
  });

  it('resolves paths through namespaces', async () => {
    const outer = client.client(Namespace, await create(PROTO.NAMESPACE));
    const innerCap = await create(PROTO.NAMESPACE);
    await client.client(Namespace, innerCap).register({ name: 'x', capability: root });
    await outer.register({ name: 'in', capability: innerCap });
    expect((await outer.query({ name: 'in/x' })).capability).toMatchObject({ object: root.object });
    await expect(outer.register({ name: 'a/b', capability: root })).rejects.toMatchObject({ errno: 22 });
    expect((await outer.list()).names).toEqual(['in']);
  });
});
