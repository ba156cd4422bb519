/** Ports of `l4lab port` whose programs are slow to start, or never do. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGate } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import { TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { holdUdpPort } from '#common/testing/udp_port';
import { ControlPorts, type StartedProgram } from './control_ports.ts';
import { Switch } from './switch.ts';
import { listLog } from './testing/mock_switch.ts';

let dir: TestRunDir;
let task: TestTask;
let lan: Switch;
let ports: ControlPorts;
/** Programs that are being started. */
let starting: { resolve(started: StartedProgram): void; reject(err: Error): void }[];

beforeEach(async () => {
  dir = testRunDir();
  task = new TestTask(dir.path, 's');
  const { log } = listLog();
  lan = new Switch(task, { ports: 4, queueSize: 64, assignMacs: true, log });
  starting = [];
  ports = new ControlPorts(lan, log, {
    start: () =>
      new Promise((resolve, reject) => {
        starting.push({ resolve, reject });
      }),
  });
  const gate = await task.ipc.serve(createGate());
  gate.setRoot([]);
  ports.serveFrom(gate);
});
afterEach(() => {
  lan.close();
  task.close();
  dir[Symbol.dispose]();
});

const PROGRAM = { argv: ['rom/curl'] };
const names = () => lan.ports.all().map(({ name }) => name);

describe('ControlPorts', () => {
  it('makes a port that goes with its program', async () => {
    const adding = ports.add(['name=web'], PROGRAM);
    expect(names()).toEqual(['web']);
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    starting[0]?.resolve({ name: 'curl', ended });
    expect(await adding).toMatchObject({ number: 0, name: 'web', task: 'curl' });
    expect(ports.extras(0)).toEqual({ persistent: false, task: 'curl' });
    end();
    await expect.poll(names).toEqual([]);
  });

  it('takes its port away when the program does not start, and no other port that has its number by then', async () => {
    const first = ports.add(['name=one'], PROGRAM);
    starting[0]?.reject(new L4Error('ENOENT', 'Cannot start rom/curl'));
    await expect(first).rejects.toThrow('Cannot start rom/curl');
    expect(names()).toEqual([]);

    const second = ports.add(['name=two'], PROGRAM);
    ports.remove('two');
    const { number } = await ports.add(['name=three'], undefined);
    expect(number).toBe(0);
    starting[1]?.reject(new L4Error('ENOENT', 'Cannot start rom/curl'));
    await expect(second).rejects.toThrow('Cannot start rom/curl');
    expect(names()).toEqual(['three']);
  });

  it('leaves a port alone that has the number of one whose program ends late', async () => {
    const one = ports.add(['name=one'], PROGRAM);
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    starting[0]?.resolve({ name: 'curl', ended });
    await one;
    ports.remove('one');
    await ports.add(['name=two'], undefined);
    end();
    await ended;
    await new Promise((resolve) => setImmediate(resolve));
    expect(names()).toEqual(['two']);
  });

  it('starts no program on a tunnel', async () => {
    const { port, free } = await holdUdpPort();
    const tunnel = ['type=vxlan', 'remote=127.31.0.4', 'local=127.31.0.3', `port=${port}`];
    await ports.add([...tunnel, 'vni=1', 'name=far'], undefined);
    await expect(ports.run('far', PROGRAM)).rejects.toThrow('a VXLAN port has no device');
    const add = ports.add([...tunnel, 'vni=2'], PROGRAM);
    await expect(add).rejects.toMatchObject({ code: 'VSWITCH_PORT_HELD' });
    expect([names(), starting.length]).toEqual([['far'], 0]);
    free();
  });
});
