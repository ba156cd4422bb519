import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGate } from '#common/ipc/capability';
import type { Gate } from '#common/ipc/gate';
import { TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { ControlPorts, type ProgramStarter } from './control_ports.ts';
import { Switch } from './switch.ts';
import { listLog } from './testing/mock_switch.ts';

const PROGRAM = { argv: ['rom/curl'] };

let dir: TestRunDir;
let task: TestTask;
let lan: Switch;
let gate: Gate;
/** What becomes of the program that is being started. */
let start: { resolve(): void; reject(err: Error): void };
let end: () => void;
let ports: ControlPorts;

beforeEach(async () => {
  dir = testRunDir();
  task = new TestTask(dir.path, 's');
  const { log } = listLog();
  lan = new Switch(task, { ports: 4, queueSize: 64, assignMacs: true, log });
  gate = await task.ipc.serve(createGate());
  const starter: ProgramStarter = {
    start: () =>
      new Promise((resolve, reject) => {
        const ended = new Promise<void>((over) => {
          end = over;
        });
        start = { resolve: () => resolve({ name: 'curl', ended }), reject };
      }),
  };
  ports = new ControlPorts(lan, log, starter);
  ports.serveFrom(gate);
});

afterEach(() => {
  lan.close();
  task.close();
  dir[Symbol.dispose]();
});

const names = () => lan.ports.all().map(({ number, name }) => `${number} ${name}`);

describe('ControlPorts.add()', () => {
  it('makes a port that goes with its program', async () => {
    const adding = ports.add(['name=web'], PROGRAM);
    expect(names()).toEqual(['0 web']);
    start.resolve();
    expect(await adding).toMatchObject({ number: 0, name: 'web', task: 'curl' });
    expect(ports.extras(0)).toEqual({ persistent: false, task: 'curl' });
    end();
    await expect.poll(names).toEqual([]);
  });

  it('takes the port back when its program cannot be started', async () => {
    const adding = ports.add(['name=web'], PROGRAM);
    start.reject(new Error('no such file'));
    await expect(adding).rejects.toThrow('no such file');
    expect(names()).toEqual([]);
  });

  it('takes back no port of somebody else that has its number by then', async () => {
    const adding = ports.add(['name=web'], PROGRAM);
    ports.remove('web');
    await ports.add(['name=other'], undefined);
    expect(names()).toEqual(['0 other']);
    start.reject(new Error('no such file'));
    await expect(adding).rejects.toThrow('no such file');
    expect(names()).toEqual(['0 other']);
  });
});
