// A link that died without a word, and the next one on the same gate.
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { bind } from '#common/ipc/service';
import { journalPath, type KeptRecord, ObjectJournal } from '#common/journal/object_journal';
import { restoreObjects } from '#common/journal/resume';
import { NetClient, TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { ethernet } from '#common/vnet/testing/mock_client';
import { Factory, Meta } from '../../proto/gen/services.js';
import { factoryHandlers, restorePort } from './factory.ts';
import { Link } from './link.ts';

let dir: TestRunDir;
let end: ServerEnd;
let lines: string[];
let lives: Life[];
let tasks: TestTask[];

/** One life of the link. */
class Life {
  readonly task = new TestTask(dir.path, 'e');
  readonly link = new Link(this.task, { queueSize: 64, log: (line) => void lines.push(line) });
  readonly journal = new ObjectJournal(journalPath(dir.path, end.gate), (line) => void lines.push(line));
  records: KeptRecord[] = [];

  static async begin(): Promise<Life> {
    const life = new Life();
    lives.push(life);
    const { link, journal } = life;
    const gate = await life.task.ipc.serve(end, (unbound) => {
      life.records = restoreObjects(journal, (record) => restorePort(unbound, link, record, journal));
    });
    gate.setRoot([
      bind(
        Factory,
        factoryHandlers(gate, link, (line) => void lines.push(line), journal),
      ),
    ]);
    link.start();
    return life;
  }

  /** As kill -9 does it, as far as others can see. Resolves when these have seen it, who have called it before. */
  async die(...callers: TestTask[]): Promise<void> {
    const seen = callers.map(({ ipc }) => ipc.whenGone(rootCapability(end)));
    this.task.ipc.close();
    await Promise.all(seen);
  }

  close(): void {
    this.link.close();
    this.task.close();
  }
}

beforeEach(() => {
  dir = testRunDir();
  end = createGate();
  lines = [];
  lives = [];
  tasks = [];
});

afterEach(() => {
  for (const each of [...tasks, ...lives]) each.close();
  dir[Symbol.dispose]();
});

function client(id: string): TestTask {
  const task = new TestTask(dir.path, id);
  tasks.push(task);
  return task;
}

async function create(task: TestTask, ...texts: string[]): Promise<Capability> {
  const factory = task.ipc.client(Factory, rootCapability(end));
  const { object } = await factory.create({ type: 0, arguments: texts.map((text) => ({ text })) });
  return object as Capability;
}

const kept = () => readdirSync(journalPath(dir.path, end.gate));

describe('a link that is started again', () => {
  it('has its ports again, and its clients reach each other with the capabilities that they have', async () => {
    const first = await Life.begin();
    const [ta, tb] = [client('a'), client('b')];
    const ca = await create(ta, 'ds-max=4', 'mac=02:00:00:00:00:0a');
    const cb = await create(tb);
    await first.die(ta, tb);
    const second = await Life.begin();
    expect(second.records).toMatchObject([{ number: 0 }, { number: 1 }]);
    const [a, b] = [await NetClient.open(ta, ca), await NetClient.open(tb, cb)];
    expect(a.driver.mac).toEqual(Uint8Array.of(2, 0, 0, 0, 0, 10));
    a.send(ethernet(1, 0));
    b.send(ethernet(0, 1));
    await expect.poll(() => [a.received, b.received]).toEqual([[ethernet(0, 1)], [ethernet(1, 0)]]);
    await expect(create(client('c'))).rejects.toMatchObject({ code: 'P2P_NO_PORT' });
    expect(lines.filter((line) => line.startsWith('Cannot make'))).toEqual([]);
  });

  it('keeps the port of the one who is left, under its number', async () => {
    const first = await Life.begin();
    const [ta, tb] = [client('a'), client('b')];
    const gone = await create(ta);
    await create(tb);
    await ta.ipc.client(Meta, gone).release({ task: 'a'.repeat(32) });
    expect(kept()).toHaveLength(1);
    await first.die(ta, tb);
    const second = await Life.begin();
    expect(second.records).toMatchObject([{ number: 1, holders: ['b'.repeat(32)] }]);
    await create(client('c'));
    expect(kept()).toHaveLength(2);
    await tb.ipc.client(Meta, rootCapability(end)).taskGone({ task: 'b'.repeat(32) });
    expect([kept().length, lines.at(-1)]).toEqual([1, 'Client on port 1 has gone. Unregistering.']);
  });

  it.each([
    ['of a third end', { type: 0, number: 2 }, /its number must be 0\.\.1: current value is 2/],
    ['with a number twice', { type: 0, number: 0 }, /port 0 is in use/],
    ['that is no port', { type: 1, number: 1 }, /its type must be 0 \(port\): current value is 1/],
  ])('ignores a port %s with a warning', async (_what, { number, type }, why) => {
    const first = await Life.begin();
    await create(client('a'));
    first.journal.memo({ type, arguments: [] }).save(0xffff_ffff, { number }, ['a'.repeat(32)]);
    await first.die();
    const second = await Life.begin();
    expect(second.records).toMatchObject([{ number: 0 }]);
    expect(lines.at(-1)).toMatch(/^Cannot make port again from /);
    expect(lines.at(-1)).toMatch(why);
    expect(kept()).toHaveLength(1);
  });
});
