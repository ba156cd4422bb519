// A switch that died without a word, and the next one on the same gate: journal, ports, holders.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Capability, createGate, rootCapability, type ServerEnd } from '#common/ipc/capability';
import type { Gate } from '#common/ipc/gate';
import { bind, type Handlers } from '#common/ipc/service';
import { journalPath, type KeptRecord, ObjectJournal } from '#common/journal/object_journal';
import { releaseLost, restoreObjects } from '#common/journal/resume';
import type { SharedMemoryRef } from '#common/shm/dataspace';
import { NetClient, TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { holdUdpPort } from '#common/testing/udp_port';
import { ethernet } from '#common/vnet/testing/mock_client';
import { l4lab as m } from '../../proto/gen/messages.js';
import { Factory, Meta, Parent, SwitchStatistics } from '../../proto/gen/services.js';
import { ControlPorts } from './control_ports.ts';
import { factoryHandlers, restoreObject } from './factory.ts';
import { formatMac } from './mac_address.ts';
import { PORT_STATISTICS, STATISTICS } from './statistics.ts';
import { StatisticsReaders } from './statistics_reader.ts';
import { Switch } from './switch.ts';
import { listLog } from './testing/mock_switch.ts';

const PORTS = 8;
const [A, B, NED] = ['a', 'b', 'd'].map((digit) => digit.repeat(32)) as [string, string, string];

/** One life of a switch. */
class Life {
  readonly task: TestTask;
  readonly lan: Switch;
  readonly journal: ObjectJournal;
  readonly readers: StatisticsReaders;
  readonly control: ControlPorts;
  readonly lines: string[];
  readonly log: ReturnType<typeof listLog>['log'];
  ports: KeptRecord[] = [];
  gate: Gate | undefined;

  constructor(end: ServerEnd) {
    this.task = new TestTask(dir.path, 'e');
    const { log, lines } = listLog();
    this.log = log;
    this.lines = lines;
    this.journal = new ObjectJournal(journalPath(dir.path, end.gate), this.warn, /^nic\d+$/);
    const firstAge = this.journal.resumed ? Date.now() : 0;
    this.lan = new Switch(this.task, { ports: PORTS, queueSize: 256, assignMacs: true, log, firstAge });
    this.readers = new StatisticsReaders(this.lan, this.task.memories);
    this.control = new ControlPorts(this.lan, log, undefined);
    lives.push(this);
  }

  readonly warn = (text: string): void => this.log.warn('core', text);

  async serve(end: ServerEnd): Promise<this> {
    this.lan.start();
    const gate = await this.task.ipc.serve(end, (unbound) => {
      const { lan, readers, control, journal } = this;
      const make = (record: KeptRecord) => restoreObject(unbound, lan, readers, control, record, journal);
      this.ports = restoreObjects(journal, make);
    });
    gate.setRoot([bind(Factory, factoryHandlers(gate, this.lan, this.readers, this.log, this.journal))]);
    this.control.serveFrom(gate, this.journal);
    this.gate = gate;
    return this;
  }

  /** As kill -9 does it, as far as others can see. Resolves when these have seen it, who have called it before. */
  async die(...callers: TestTask[]): Promise<void> {
    const seen = callers.map(({ ipc }) => ipc.whenGone(root));
    this.task.ipc.close();
    await Promise.all(seen);
  }

  close(): void {
    this.lan.close();
    this.task.close();
  }
}

let dir: TestRunDir;
let end: ServerEnd;
let root: Capability;
let clients: TestTask[];
let lives: Life[];

beforeEach(() => {
  dir = testRunDir();
  end = createGate();
  root = rootCapability(end);
  clients = [];
  lives = [];
});

afterEach(() => {
  for (const each of [...clients, ...lives]) each.close();
  dir[Symbol.dispose]();
});

const begin = () => new Life(end).serve(end);
const journalDir = () => journalPath(dir.path, end.gate);
const kept = () => readdirSync(journalDir());

function client(id: string): TestTask {
  const task = new TestTask(dir.path, id);
  clients.push(task);
  return task;
}

async function create(task: TestTask, ...texts: string[]): Promise<Capability> {
  const args = [...texts.map((text) => ({ text })), { nil: true }];
  const { object } = await task.ipc.client(Factory, root).create({ type: 0, arguments: args });
  return object as Capability;
}

/** What of a port must be the same again. */
function facts({ lan }: Life) {
  return lan.ports.all().map(({ number, name, kind, spec, mac }) => ({
    number,
    name,
    kind,
    mac: mac && formatMac(mac),
    dsMax: spec.dsMax,
    vlan: spec.access ?? spec.trunk,
    carries: [5, 7, 9, 0xffff].map((vlan) => lan.forwarder.vlans.carries(number, vlan)),
  }));
}

describe('a switch that is started again', () => {
  it('has the same ports: numbers, names, MAC addresses, VLANs, limits', async () => {
    const first = await begin();
    const task = client('a');
    const gone = await create(task);
    const specs = [
      [],
      ['name=web', 'vlan=access=7', 'ds-max=4'],
      ['vlan=trunk=5,9'],
      ['type=monitor'],
      ['vlan=trunk=all', 'mac=02:00:00:00:00:0a'],
    ];
    for (const spec of specs) await create(task, ...spec);
    await task.ipc.client(Meta, gone).release({ task: A });
    const before = facts(first);
    expect(before.map(({ number }) => number)).toEqual([1, 2, 3, 4, PORTS]);
    await first.die(task);
    const second = await begin();
    expect(facts(second)).toEqual(before);
    expect(second.lines).toEqual([]);
    // Names that the switch makes up go on counting, numbers are the lowest free ones.
    await create(task);
    expect(second.lan.ports.get(0)?.name).toBe('[5]');
  });

  it('and its clients carry frames again, with their capabilities', async () => {
    const first = await begin();
    const [ta, tb] = [client('a'), client('b')];
    const [ca, cb] = [await create(ta), await create(tb)];
    await NetClient.open(ta, ca);
    await first.die(ta, tb);
    await begin();
    const [a, b] = [await NetClient.open(ta, ca), await NetClient.open(tb, cb)];
    a.send(ethernet(-1, 0));
    await expect.poll(() => b.received).toHaveLength(1);
  });

  it('keeps holders as they are, and forgets ports without', async () => {
    const first = await begin();
    const [ta, tb] = [client('a'), client('b')];
    const port = await create(ta);
    await ta.ipc.client(Meta, port).hold({ task: B });
    await tb.ipc.client(Meta, port).release({ task: A });
    await first.die(ta, tb);
    const second = await begin();
    expect(second.ports).toMatchObject([{ holders: [B], number: 0, object: port.object }]);
    await tb.ipc.client(Meta, root).taskGone({ task: B });
    expect([second.lan.ports.count, kept()]).toEqual([0, []]);
    await expect(tb.ipc.interfaces(port)).rejects.toMatchObject({ code: 'IPC_OBJECT_GONE' });
  });

  it('has the links still down that were taken down', async () => {
    const first = await begin();
    const [ta, tb] = [client('a'), client('b')];
    const [ca, cb] = [await create(ta, 'name=a'), await create(tb, 'name=b')];
    for (const up of [false, true, false]) first.lan.setLink(0, up);
    await ta.ipc.client(Meta, ca).hold({ task: NED });
    await first.die(ta, tb);
    const second = await begin();
    expect([0, 1].map((number) => second.lan.forwarder.linkUp(number))).toEqual([false, true]);
    const [a, b] = [await NetClient.open(ta, ca), await NetClient.open(tb, cb)];
    expect([a, b].map(({ driver }) => driver.deviceConfig(8)[6])).toEqual([0, 1]);
    second.lan.setLink(0, true);
    await second.die();
    expect((await begin()).lan.forwarder.linkUp(0)).toBe(true);
  });

  it('keeps no more of what a client claims than can be true', async () => {
    const first = await begin();
    const task = client('a');
    const port = await create(task);
    const meta = task.ipc.client(Meta, port);
    const claims = Array.from({ length: 2000 }, (_, n) =>
      meta.hold({ task: n.toString(16).padStart(32, '0') }),
    );
    const refused = (await Promise.allSettled(claims)).filter(({ status }) => status === 'rejected');
    expect(refused).toHaveLength(2000 - 1023);
    // Its arguments are too many to be kept.
    await create(task, ...Array.from({ length: 25 }, () => `name=${'x'.repeat(3990)}`));
    expect(first.lines.join('\n')).toMatch(/Cannot keep \S+ for a restart: it would have 1\d{5} bytes/);
    await first.die(task);
    const second = await begin();
    expect([second.ports.length, second.ports[0]?.holders.length, second.lines]).toEqual([1, 1024, []]);
  });

  it('asks its parent who is left, and lets go of the ports of the others', async () => {
    const first = await begin();
    const [ta, tb] = [client('a'), client('b')];
    const [one, two] = [await create(ta), await create(tb)];
    await ta.ipc.client(Meta, two).hold({ task: NED });
    await first.die(ta, tb);
    const second = await begin();
    const parent = createGate();
    const ned = client('d');
    const asked = vi.fn<Handlers<typeof Parent>['checkHolders']>(() => ({
      objects: [{ object: two.object, tasks: [NED] }],
    }));
    const refuse = () => {
      throw new Error('not asked');
    };
    (await ned.ipc.serve(parent)).setRoot([
      bind(Parent, { startTask: refuse, waitTask: refuse, killTask: refuse, checkHolders: asked }),
    ]);
    const env = {
      ipc: second.task.ipc,
      parent: rootCapability(parent),
      signal: new AbortController().signal,
    };
    await releaseLost(env, second.gate as Gate, end.gate, second.ports, second.warn);
    expect(asked.mock.calls[0]?.[0]).toMatchObject({
      gate: end.gate,
      objects: [
        { object: one.object, tasks: [A] },
        { object: two.object, tasks: [B, NED] },
      ],
    });
    expect(second.lan.ports.all()).toMatchObject([{ number: 1 }]);
    expect(kept()).toEqual([hex(two)]);
    await second.die();
    expect((await begin()).ports).toMatchObject([{ holders: [NED] }]);
  });

  it('has its tunnels and mirrors again', async () => {
    const { port, free } = await holdUdpPort();
    const first = await begin();
    const task = client('a');
    await create(task, 'name=web');
    await create(task, 'type=mirror', 'mirror=web');
    await create(task, 'type=vxlan', 'vni=7', 'remote=127.31.0.2', 'local=127.31.0.1', `port=${port}`);
    const before = facts(first);
    await first.die(task);
    first.lan.close();
    const second = await begin();
    expect([facts(second), second.lines]).toEqual([before, []]);
    expect(before.map(({ kind }) => kind)).toEqual(['port', 'mirror', 'vxlan']);
    expect(second.lan.ports.mirrored()[0]).toMatchObject({ port: { number: 0 }, mirrors: [1] });
    free();
  });

  it('has its statistics readers again, with the pages that their clients have mapped', async () => {
    const first = await begin();
    const [ta, tb] = [client('a'), client('b')];
    await create(ta, 'name=web');
    const { object } = await tb.ipc.client(Factory, root).create({ type: 1 });
    const reader = tb.ipc.client(SwitchStatistics, object as Capability);
    const { memory } = await reader.getBuffer();
    const page = tb.memories.open(memory as SharedMemoryRef);
    const u64 = (at: number) => Number(tb.arena.view.getBigUint64(page.offset + at, true));
    const age = u64(STATISTICS.AGE);
    expect([age, kept().length]).toEqual([1, 2]);
    await first.die(ta, tb);
    const second = await begin();
    expect(second.lines).toEqual([]);
    second.lan.forwarder.counters.received(0, 60);
    second.lan.forwarder.counters.delivered(0, 1, 60);
    await reader.sync();
    expect(u64(STATISTICS.ARRAY + PORT_STATISTICS.RX_NUM)).toBe(1);
    // Ports may be other ones now, even if they are as many.
    expect(u64(STATISTICS.AGE)).toBeGreaterThan(age);
    expect((await reader.getBuffer()).memory).toEqual(memory);
    // It goes with its holder, and its page with it.
    await tb.ipc.client(Meta, object as Capability).release({ task: B });
    expect([kept().length, existsSync(join(dir.path, 'm', page.ref.name))]).toEqual([1, false]);
    await second.die();
    expect((await begin()).lines).toEqual([]);
  });

  it('lets the next life have the pages when its container is restarted', async () => {
    const first = await begin();
    const task = client('a');
    const { object } = await task.ipc.client(Factory, root).create({ type: 1 });
    await first.die(task);
    first.readers.leave();
    first.close();
    const second = await begin();
    expect([second.lines, second.ports.length]).toEqual([[], 1]);
    await task.ipc.client(SwitchStatistics, object as Capability).sync();
  });

  it('has ports that nobody holds again, and they are what they were', async () => {
    const first = await begin();
    await first.control.add(['name=lab', 'vlan=access=7'], undefined);
    const before = facts(first);
    await first.die();
    const second = await begin();
    expect([facts(second), second.lines, second.control.extras(0)]).toEqual([
      before,
      [],
      { persistent: true, task: '' },
    ]);
    await second.die();
    const third = await begin();
    third.control.remove('lab');
    expect([third.lan.ports.count, kept()]).toEqual([0, []]);
  });

  it('keeps nothing when it ends in order', async () => {
    const life = await begin();
    await create(client('a'));
    expect(kept()).toHaveLength(1);
    life.journal.close();
    expect(existsSync(journalDir())).toBe(false);
    // What its clients still do is no concern of it any more.
    await create(client('b'));
    expect([existsSync(journalDir()), life.lines]).toEqual([false, []]);
    life.lan.close();
    expect(new Life(end).journal.resumed).toBe(false);
  });
});

const PAGE = { name: 'c'.repeat(32), size: 4096 };
const hex = ({ object }: Capability) => object.toString(16).padStart(8, '0');
const record = (fields: m.IObjectRecord, object = '0000abcd') => {
  const valid = { arguments: [], number: 3, name: 'x', mac: new Uint8Array(0), holders: [A] };
  writeFileSync(join(journalDir(), object), m.ObjectRecord.encode({ ...valid, ...fields }).finish());
};

describe('a journal that is not as the switch has left it', () => {
  const SPOIL: [string, RegExp, () => void][] = [
    [
      'is cut',
      /index out of range|its holders must be/,
      () => truncateSync(join(journalDir(), '0000abcd'), 5),
    ],
    [
      'is empty',
      /its holders must be task ids, at least one/,
      () => truncateSync(join(journalDir(), '0000abcd'), 0),
    ],
    ['is noise', /./, () => writeFileSync(join(journalDir(), '0000abcd'), Buffer.alloc(300, 0xa5))],
    [
      'is huge',
      /at most 65536 bytes: it has 2000000/,
      () => writeFileSync(join(journalDir(), '0000abcd'), Buffer.alloc(2e6)),
    ],
    ['is a directory', /must be a file/, () => mkdirSync(join(journalDir(), '0000abce'))],
    ['is a link', /ELOOP/, () => symlinkSync('/etc/passwd', join(journalDir(), '0000abce'))],
    [
      'cannot be read as a number',
      /its name must be the number/,
      () => writeFileSync(join(journalDir(), 'port'), ''),
    ],
    ['has the number of the gate', /its name must be the number/, () => record({}, '00000000')],
    ['has no such number', /must be that of a port: current value is 8/, () => record({ number: PORTS })],
    ['has a number twice', /number 0 is in use by port 'good'/, () => record({ number: 0 }, 'ffffffff')],
    [
      'has a MAC address twice',
      /MAC address already in use/,
      () => record({ mac: Uint8Array.of(2, 0, 0, 0, 0, 1) }),
    ],
    [
      'has a short MAC address',
      /must have 6 bytes: current value is 2/,
      () => record({ mac: Uint8Array.of(1, 2) }),
    ],
    ['has a long name', /1 to 19 characters/, () => record({ name: 'x'.repeat(20) })],
    ['has no name', /1 to 19 characters/, () => record({ name: '' })],
    [
      'has a holder that is none',
      /task ids, at least one: current value is '\.\.\/x'/,
      () => record({ holders: ['../x'] }),
    ],
    [
      'has arguments that are refused',
      /Unknown option 'hello=1'/,
      () => record({ arguments: [{ text: 'hello=1' }] }),
    ],
    ['has no holder', /task ids, at least one: current value is ''/, () => record({ holders: [] })],
    ['is of no type', /Invalid object type/, () => record({ type: 2 })],
    ['is a reader without a page', /its page must have 4096 bytes: it has 0/, () => record({ type: 1 })],
    [
      'is a reader whose page is gone',
      /none of that name in this lab/,
      () => record({ type: 1, page: PAGE }),
    ],
    [
      'is a reader of another number of ports',
      /must have 4096 bytes: it has 8192/,
      () => record({ type: 1, page: { ...PAGE, size: 8192 } }),
    ],
    [
      'is a reader that nobody holds',
      /Invalid object type/,
      () => record({ type: 1, page: PAGE, holders: [], persistent: true }),
    ],
    [
      'is a second monitor',
      /must be that of a port/,
      () => record({ arguments: [{ text: 'type=monitor' }] }),
    ],
  ];

  it.each(SPOIL)(
    'a port that %s is ignored with a warning, the others are there',
    async (_what, why, spoil) => {
      const first = await begin();
      await create(client('a'), 'name=good', 'mac=02:00:00:00:00:01');
      await first.die();
      record({}, '0000abcd');
      spoil();
      const second = await begin();
      const bad = second.lines.filter((line) => line.includes('Cannot make port again from'));
      expect(bad.length).toBeGreaterThanOrEqual(1);
      expect(bad.join('\n')).toMatch(why);
      expect(second.lan.ports.get(0)?.name).toBe('good');
      // What was ignored is gone: it is said once.
      await second.die();
      expect((await begin()).lines).toEqual([]);
    },
  );

  it('is made anew when something else is in its place', async () => {
    writeFileSync(journalDir(), 'a file');
    const life = await begin();
    expect(life.journal.resumed).toBe(false);
    await create(client('a'));
    expect(kept()).toHaveLength(1);
  });

  it('half-written files are no ports', async () => {
    const first = await begin();
    await first.die();
    record({}, '0000abcd.new');
    const second = await begin();
    expect([second.lines, second.lan.ports.count, kept()]).toEqual([[], 0, []]);
  });

  it('that cannot be written costs a warning, not the port', async () => {
    const life = await begin();
    rmSync(journalDir(), { recursive: true });
    await create(client('a'));
    expect(life.lines.join('\n')).toMatch(/Cannot keep \S+ for a restart: ENOENT/);
    expect(life.lan.ports.count).toBe(1);
  });
});
