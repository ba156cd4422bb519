import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { Dealer, Router } from 'zeromq';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { l4lab as m } from '../../../proto/gen/messages.js';
import { Factory, Lab, Meta, Namespace } from '../../../proto/gen/services.js';
import {
  type Capability,
  createGate,
  mint,
  narrow,
  RIGHT_R,
  rightsOf,
  rootCapability,
} from './capability.ts';
import { L4Error } from './errors.ts';
import type { Gate } from './gate.ts';
import { gatePath, Ipc } from './ipc.ts';
import { bind, type Handlers } from './service.ts';

const NAMES: Handlers<typeof Namespace> = {
  query: ({ name }) => {
    throw new L4Error('ENOENT', `no ${name}`, { code: 'TEST_MISSING' });
  },
  register: () => ({}),
  list: () => ({ names: ['a', 'b'] }),
};

describe('Ipc', () => {
  let dir: TestRunDir;
  let server: Ipc;
  let client: Ipc;
  let waiting: string[];

  beforeEach(() => {
    dir = testRunDir();
    waiting = [];
    server = new Ipc({ runDir: dir.path, task: 's'.repeat(32) });
    client = new Ipc({
      runDir: dir.path,
      task: 'c'.repeat(32),
      onWaiting: (text) => waiting.push(text),
      nameOf: () => "channel 'names'",
    });
  });
  afterEach(() => {
    client.close();
    server.close();
    dir[Symbol.dispose]();
  });

  async function serveNames(handlers = NAMES): Promise<{ gate: Gate; cap: Capability }> {
    const end = createGate();
    const gate = await server.serve(end);
    gate.setRoot([bind(Namespace, handlers)]);
    return { gate, cap: rootCapability(end) };
  }

  it('forget() ends calls in progress; a later one finds the gate again', async () => {
    let asked = () => {};
    const asking = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const list = () => {
      asked();
      return new Promise<never>(() => {});
    };
    const { gate, cap } = await serveNames({ ...NAMES, list });
    const call = client.client(Namespace, cap).list();
    await asking;
    client.forget(cap.gate);
    await expect(call).rejects.toMatchObject({ code: 'L4_EIPC_CANCELED' });
    gate.clearRoot();
    gate.setRoot([bind(Namespace, NAMES)]);
    expect((await client.client(Namespace, cap).list()).names).toEqual(['a', 'b']);
  });

  it('call() returns what the handler returned, with defaults filled in', async () => {
    const { cap } = await serveNames();
    expect((await client.client(Namespace, cap).list()).names).toEqual(['a', 'b']);
    expect(await client.interfaces(cap)).toMatchObject({ services: ['l4lab.Namespace'], rights: 0xf });
  });

  it('call() waits for an object that a server is about to make again, and is refused when it has not', async () => {
    const end = createGate();
    let allMade = () => {};
    const gate = await server.serve(end, (unbound) =>
      unbound.awaitObjects(
        new Promise((resolve) => {
          allMade = resolve;
        }),
      ),
    );
    const [made, never] = [mint(end, 77), mint(end, 78)];
    const answers = [made, never].map((cap) => client.client(Namespace, cap).list());
    const settled = Promise.allSettled(answers);
    const forged = { ...made, proof: new Uint8Array(made.proof?.length ?? 0) };
    await expect(client.client(Namespace, forged).list()).rejects.toMatchObject({ code: 'IPC_BAD_PROOF' });
    gate.export([bind(Namespace, NAMES)], { id: 77 });
    allMade();
    expect(await settled).toMatchObject([
      { value: { names: ['a', 'b'] } },
      { reason: { code: 'IPC_OBJECT_GONE' } },
    ]);
    await expect(client.client(Namespace, never).list()).rejects.toMatchObject({ code: 'IPC_OBJECT_GONE' });
  });

  it('call() rejects with number, code and sentence of the handler', async () => {
    const { cap } = await serveNames();
    const failure = client.client(Namespace, cap).query({ name: 'x' });
    await expect(failure).rejects.toMatchObject({ errno: 2, code: 'TEST_MISSING', message: 'no x' });
  });

  it('call() waits for a server that binds later and says so after a second', async () => {
    const end = createGate();
    const answer = client.client(Namespace, rootCapability(end)).list();
    await expect.poll(() => waiting).toEqual(["Namespace.list: waiting for a server of channel 'names'"]);
    const gate = await server.serve(end);
    gate.setRoot([bind(Namespace, NAMES)]);
    expect((await answer).names).toEqual(['a', 'b']);
  });

  it('call() fails when the server went away while it was working', async () => {
    let called = () => {};
    const arrived = new Promise<void>((resolve) => {
      called = resolve;
    });
    const { gate, cap } = await serveNames({
      ...NAMES,
      list: () => {
        called();
        return new Promise(() => {});
      },
    });
    const failure = expect(client.client(Namespace, cap).list()).rejects.toMatchObject({
      errno: 2004,
      code: 'IPC_SERVER_DIED',
    });
    await arrived;
    gate.close();
    await failure;
  });

  it('a call that failed as its server went away is not carried out by the next one', async () => {
    const end = createGate();
    const cap = rootCapability(end);
    const names = client.client(Namespace, cap);
    (await server.serve(end)).setRoot([bind(Namespace, NAMES)]);
    await names.list();
    server.close();
    // The client does not know yet.
    const calls = Array.from({ length: 5 }, () => names.list());
    const settled = Promise.allSettled(calls);
    let lists = 0;
    const list = () => {
      lists += 1;
      return { names: [] };
    };
    (await server.serve(end)).setRoot([bind(Namespace, { ...NAMES, list })]);
    const lost = { status: 'rejected', reason: { code: 'IPC_SERVER_DIED' } };
    expect(await settled).toMatchObject(calls.map(() => lost));
    await names.list();
    await names.list();
    expect(lists).toBe(2);
  });

  it('call() fails with the epitaph when the server had died before', async () => {
    const end = createGate();
    writeFileSync(`${gatePath(dir.path, end.gate)}.dead`, "task 'io' ended with status 1");
    const failure = client.client(Namespace, rootCapability(end)).list();
    await expect(failure).rejects.toThrow(
      "Namespace.list: Cannot reach channel 'names' as task 'io' ended with status 1",
    );
  });

  it('the calls of a task that ends are abandoned, and what they still make is given back', async () => {
    const end = createGate();
    const gate = await server.serve(end);
    const gone: string[] = [];
    let called: (signal: AbortSignal) => void = () => {};
    let finish = () => {};
    const arrived = new Promise<AbortSignal>((resolve) => {
      called = resolve;
    });
    const slow = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const create: Handlers<typeof Factory>['create'] = async (_request, { task: holder, signal }) => {
      called(signal);
      await slow;
      return { object: gate.export([], { holder, onGone: () => void gone.push(holder) }) };
    };
    gate.setRoot([bind(Factory, { create })]);
    const root = rootCapability(end);
    const ended = { task: 'e'.repeat(32) };
    const of = (task: string) => client.client(Factory, root).create({}, { task });
    const [first, second] = [of(ended.task), of('f'.repeat(32))];
    const signal = await arrived;
    await client.client(Meta, root).taskGone(ended);
    expect(signal.aborted).toBe(true);
    finish();
    const object = (await first).object as Capability;
    await expect(client.interfaces(object)).rejects.toMatchObject({ code: 'IPC_OBJECT_GONE' });
    expect(await client.interfaces((await second).object as Capability)).toMatchObject({ services: [] });
    expect(gone).toEqual([ended.task]);
  });

  it('a task that ends an earlier life of its own keeps the calls that it has made since', async () => {
    const end = createGate();
    const gate = await server.serve(end);
    const root = rootCapability(end);
    const create = () => client.client(Factory, root).create({});
    const before = create();
    const gone = client.client(Meta, root).taskGone({ task: 'c'.repeat(32) });
    const since = create();
    // Calls arrive in order, and those before this one wait for the root.
    await expect(client.interfaces(mint(end, 7))).rejects.toMatchObject({ code: 'IPC_OBJECT_GONE' });
    gate.setRoot([
      bind(Factory, { create: (_request, { task }) => ({ object: gate.export([], { holder: task }) }) }),
    ]);
    await gone;
    const former = (await before).object as Capability;
    await expect(client.interfaces(former)).rejects.toMatchObject({ code: 'IPC_OBJECT_GONE' });
    expect(await client.interfaces((await since).object as Capability)).toMatchObject({ services: [] });
  });

  it('a reply that does not decode is an error with a number and the name of the call', async () => {
    const end = createGate();
    const router = new Router({ linger: 0 });
    await router.bind(`ipc://${gatePath(dir.path, end.gate)}`);
    const call = client.client(Namespace, rootCapability(end)).list();
    const [id, head] = await router.receive();
    const header = m.ReplyHeader.encode({ id: m.CallHeader.decode(head as Uint8Array).id }).finish();
    await router.send([id as Buffer, header, Uint8Array.of(0x0a, 0xff)]);
    await expect(call).rejects.toMatchObject({
      errno: 1001,
      message: expect.stringMatching(
        /^Cannot use the reply of l4lab\.Namespace\.list as it does not decode: /,
      ),
    });
    router.close();
  });

  it('call() gives up at its deadline and when its signal aborts; the handler is told', async () => {
    let called: (signal: AbortSignal) => void = () => {};
    const arrival = () => new Promise<AbortSignal>((resolve) => (called = resolve));
    const aborted = (signal: AbortSignal) => signal.aborted || once(signal, 'abort');
    const { cap } = await serveNames({
      ...NAMES,
      list: (_request, { signal }) => {
        called(signal);
        return new Promise(() => {});
      },
    });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const late = expect(client.client(Namespace, cap).list({}, { deadlineMs: 50 })).rejects.toMatchObject({
      errno: 2003,
      message: expect.stringContaining('gave up after 50 ms as its server did not answer'),
    });
    const first = await arrival();
    vi.advanceTimersByTime(50);
    await Promise.all([late, aborted(first)]);
    const controller = new AbortController();
    const failure = expect(
      client.client(Namespace, cap).list({}, { signal: controller.signal }),
    ).rejects.toMatchObject({ errno: 2006 });
    const second = await arrival();
    controller.abort();
    await Promise.all([failure, aborted(second)]);
    const nobody = client.client(Namespace, rootCapability(createGate())).list({}, { deadlineMs: 50 });
    vi.advanceTimersByTime(50);
    await expect(nobody).rejects.toThrow('its server has not started');
  });

  it('a capability cannot be forged, raised or used for another object or protocol', async () => {
    const { gate, cap } = await serveNames();
    const read = narrow(cap, RIGHT_R);
    expect(rightsOf(read)).toBe(4);
    const names = (c: Capability) => client.client(Namespace, c);
    await expect(names(read).register({ name: 'x' })).rejects.toThrow('lacks the rights "w": it has "r"');
    expect((await names(read).list()).names).toHaveLength(2);
    await expect(names({ ...read, masks: [] }).list()).rejects.toMatchObject({ code: 'IPC_BAD_PROOF' });
    await expect(names({ ...read, masks: [7] }).register({ name: 'x' })).rejects.toMatchObject({
      code: 'IPC_BAD_PROOF',
    });
    const other = gate.export([bind(Namespace, NAMES)]);
    await expect(names({ ...cap, object: other.object }).list()).rejects.toMatchObject({
      code: 'IPC_BAD_PROOF',
    });
    await expect(client.client(Factory, cap).create({ type: 0 })).rejects.toMatchObject({ errno: 39 });
    expect(() => client.client(Lab, { ...cap, gate: '../x' })).toThrow('malformed');
  });

  it('an object ends with its last holder', async () => {
    const { gate, cap } = await serveNames();
    let gone = 0;
    const object = gate.export([bind(Namespace, NAMES)], { holder: client.task, onGone: () => gone++ });
    const meta = client.client(Meta, object);
    await meta.hold({ task: 'd'.repeat(32) });
    await meta.release({ task: client.task });
    expect(gone).toBe(0);
    await expect(meta.hold({ task: '../x' })).rejects.toThrow('must be 32 hex digits');
    // r, and what `:m("rws")` gives.
    for (const rights of [RIGHT_R, 7])
      await expect(
        client.client(Meta, narrow(cap, rights)).taskGone({ task: 'd'.repeat(32) }),
      ).rejects.toMatchObject({ errno: 1 });
    await client.client(Meta, cap).taskGone({ task: 'd'.repeat(32) });
    expect(gone).toBe(1);
    await expect(client.client(Namespace, object).list()).rejects.toMatchObject({ code: 'IPC_OBJECT_GONE' });
  });

  it('an object has so many holders as a lab has tasks, whatever a client claims', async () => {
    const { gate } = await serveNames();
    const heard: number[] = [];
    const onHolders = (holders: readonly string[]) => heard.push(holders.length);
    const meta = client.client(
      Meta,
      gate.export([bind(Namespace, NAMES)], { holder: client.task, onHolders }),
    );
    const task = (n: number) => ({ task: n.toString(16).padStart(32, '0') });
    await Promise.all(Array.from({ length: 1023 }, (_, n) => meta.hold(task(n))));
    await expect(meta.hold(task(1023))).rejects.toThrow('at most 1024');
    await meta.hold(task(1022));
    await meta.release(task(1022));
    await meta.hold(task(1023));
    expect(heard.slice(-3)).toEqual([1024, 1023, 1024]);
  });

  it('an object of an earlier life is there before the first call, with its holders; changes are told', async () => {
    const [A, B] = ['a', 'b'].map((digit) => digit.repeat(32)) as [string, string];
    const end = createGate();
    const heard: unknown[] = [];
    const waiting = client.client(Meta, mint(end, 7)).hold({ task: A });
    const gate = await server.serve(end, (unbound) => {
      unbound.export([bind(Namespace, NAMES)], {
        id: 7,
        holders: [B],
        onHolders: (holders) => heard.push(holders),
        onGone: () => heard.push('gone'),
      });
    });
    await waiting;
    await client.client(Meta, mint(end, 7)).hold({ task: A });
    gate.release({ object: 7 }, B);
    gate.release({ object: 7 }, B);
    gate.release({ object: 7 }, A);
    expect(heard).toEqual([[B, A], [A], 'gone']);
  });

  it('a patient call waits for a server that is said to have ended', async () => {
    const end = createGate();
    const cap = rootCapability(end);
    writeFileSync(`${gatePath(dir.path, cap.gate)}.dead`, "task 'x' was ended by SIGKILL\n");
    const impatient = client.client(Namespace, cap).list();
    const patient = client.client(Namespace, cap).list({}, { patient: true });
    await expect(impatient).rejects.toMatchObject({ code: 'IPC_SERVER_DIED' });
    expect(client.epitaph(cap)).toBe("task 'x' was ended by SIGKILL");
    (await server.serve(end)).setRoot([bind(Namespace, NAMES)]);
    expect((await patient).names).toEqual(['a', 'b']);
    expect(client.epitaph(cap)).toBeUndefined();
  });

  it('a gate survives messages that do not decode', async () => {
    const { cap } = await serveNames();
    const path = gatePath(dir.path, cap.gate);
    const raw = new Dealer({ linger: 0 });
    raw.connect(`ipc://${path}`);
    await raw.send([Uint8Array.of(0xff, 0xff, 0xff), Uint8Array.of(1)]);
    await raw.send(new Uint8Array(1000).fill(0x80));
    expect((await client.client(Namespace, cap).list()).names).toEqual(['a', 'b']);
    raw.close();
    expect(existsSync(path)).toBe(true);
    server.close();
    expect(existsSync(path)).toBe(false);
  });
});
