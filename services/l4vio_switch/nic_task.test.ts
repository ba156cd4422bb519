import { describe, expect, it } from 'vitest';
import type { Handlers } from '#common/ipc/service';
import type { NicPort } from '../../proto/gen/services.js';
import { NicTask, type NicTaskHost, type TaskEnd } from './nic_task.ts';
import { listLog } from './testing/mock_switch.ts';

const MAC = '52:54:00:12:34:56';
const CONTEXT = { rights: 15, task: 'd', signal: new AbortController().signal };

/** A parent that starts drivers which do what `behave` says. */
class MockHost implements NicTaskHost {
  readonly signal: AbortSignal;
  readonly lines: string[];
  readonly log;
  readonly delays: number[] = [];
  readonly identified: string[] = [];
  readonly speeds: number[] = [];
  readonly ends: ((end: TaskEnd) => void)[] = [];
  mounts = 0;
  unmounts: boolean[] = [];
  startError: Error | undefined;
  again = false;
  #now = 0;
  readonly #stop = new AbortController();
  readonly #behave: (handlers: Handlers<typeof NicPort>, life: number) => void;
  #handlers: Handlers<typeof NicPort> | undefined;

  constructor(behave: (handlers: Handlers<typeof NicPort>, life: number) => void) {
    const { log, lines } = listLog();
    this.log = log;
    this.lines = lines;
    this.signal = this.#stop.signal;
    this.#behave = behave;
  }

  mount(handlers: Handlers<typeof NicPort>) {
    this.#handlers = handlers;
    this.mounts += 1;
    return {
      capability: { gate: '', object: 1, masks: [], proof: new Uint8Array(16) },
      identify: (driver: string, mac: Uint8Array) => {
        this.identified.push(`${driver} ${mac[5]}`);
        return driver;
      },
      setLinkSpeed: (speed: number) => void this.speeds.push(speed),
      unmount: (free: boolean) => void this.unmounts.push(free),
    };
  }

  async startDriver(): Promise<string> {
    if (this.startError) throw this.startError;
    this.#behave(this.#handlers as Handlers<typeof NicPort>, this.mounts);
    return 'task';
  }

  waitDriver(): Promise<TaskEnd> {
    return new Promise((resolve) => this.ends.push(resolve));
  }

  async delay(ms: number): Promise<void> {
    this.delays.push(ms);
    this.#now += ms;
  }

  now(): number {
    return this.#now;
  }

  pass(ms: number): void {
    this.#now += ms;
  }

  stop(): void {
    this.#stop.abort();
  }
}

const attach = (handlers: Handlers<typeof NicPort>) => {
  void handlers.attach({ mac: MAC, driver: 'ixl-e1000', linkSpeed: 1000 } as never, CONTEXT);
};
const die = async (host: MockHost) => {
  const life = host.ends.length;
  host.ends[life - 1]?.({ exitCode: 0, killed: true });
  await expect.poll(() => host.ends.length > life || host.unmounts.includes(true)).toBe(true);
};

describe('NicTask.start()', () => {
  it('returns when the driver has attached', async () => {
    const host = new MockHost(attach);
    expect(await new NicTask(host).start()).toBe(true);
    expect(host.identified).toEqual(['ixl-e1000 86']);
  });

  it('tells the port what link the NIC has, and each change of it', async () => {
    let nic: Handlers<typeof NicPort> | undefined;
    const host = new MockHost((handlers) => {
      nic = handlers;
      attach(handlers);
    });
    await new NicTask(host).start();
    for (const linkSpeed of [0, 100]) void nic?.link({ linkSpeed } as never, CONTEXT);
    expect(host.speeds).toEqual([1000, 0, 100]);
  });

  it.each([
    [
      'the driver finds no NIC',
      (h: Handlers<typeof NicPort>) => void h.failed({ reason: 'the bus is empty' } as never, CONTEXT),
      'the bus is empty',
    ],
    [
      'the driver finds no NIC and does not say why',
      (h: Handlers<typeof NicPort>) => void h.failed({ reason: '' } as never, CONTEXT),
      'gave no reason',
    ],
  ])('goes on without a NIC when %s', async (_name, behave, reason) => {
    const host = new MockHost(behave);
    expect(await new NicTask(host).start()).toBe(false);
    expect(host.lines[0]).toContain(reason);
    expect(host.unmounts).toEqual([true]);
  });

  it('goes on without a NIC whose MAC address cannot be used, and says so to the driver as well', async () => {
    let refused: unknown;
    const host = new MockHost((handlers) => {
      try {
        void handlers.attach({ mac: 'no', driver: 'ixl-e1000', linkSpeed: 0 } as never, CONTEXT);
      } catch (err) {
        refused = err;
      }
    });
    expect(await new NicTask(host).start()).toBe(false);
    expect(host.lines[0]).toContain("current value is 'no'");
    expect(refused).toMatchObject({ errno: 22 });
  });

  it.each([
    ['', /current value is ''/],
    ['x'.repeat(20), /must be 1\.\.19 letters and signs: current value is 'x{20}'/],
    ['a\nVSwitch: ERROR: b', /current value is 'a VSwitch: ERROR: b'/],
  ])('goes on without a NIC whose driver calls itself %j', async (driver, message) => {
    const host = new MockHost((handlers) => {
      expect(() => handlers.attach({ mac: MAC, driver, linkSpeed: 1 } as never, CONTEXT)).toThrow(message);
    });
    expect(await new NicTask(host).start()).toBe(false);
    expect([host.identified, host.lines.length]).toEqual([[], 1]);
    expect(host.lines[0]).toMatch(message);
  });

  it('makes one line of what a driver gives as its reason', async () => {
    const host = new MockHost(
      (h) => void h.failed({ reason: `a\nb\x1b[2J${'c'.repeat(2000)}` } as never, CONTEXT),
    );
    expect(await new NicTask(host).start()).toBe(false);
    expect(host.lines[0]).toMatch(/: a b \[2Jc{300,400}$/);
  });

  it('goes on without a NIC when the driver dies before its first word', async () => {
    const host = new MockHost(() => {});
    const started = new NicTask(host).start();
    await expect.poll(() => host.ends.length).toBe(1);
    host.ends[0]?.({ exitCode: 70, killed: false });
    expect(await started).toBe(false);
    expect(host.lines[0]).toContain('ended with status 70');
  });

  it('goes on without a NIC when the parent cannot start the driver', async () => {
    const host = new MockHost(attach);
    host.startError = new Error('there is no rom/ixl');
    expect(await new NicTask(host).start()).toBe(false);
    expect(host.lines[0]).toContain('there is no rom/ixl');
  });
});

describe('NicTask of a switch that was killed', () => {
  it('tries again when its first driver finds the NIC still taken', async () => {
    const host = new MockHost((handlers, life) => {
      if (life === 1) void handlers.failed({ reason: 'the function is in another space' } as never, CONTEXT);
      else attach(handlers);
    });
    host.again = true;
    expect(await new NicTask(host).start()).toBe(true);
    await expect.poll(() => host.lines.at(-1)).toContain('NIC is back');
    expect([host.delays, host.unmounts]).toEqual([[500], [false]]);
  });
});

describe('NicTask after the driver died', () => {
  it('starts it again with growing delays and gives up after five deaths within a minute', async () => {
    const host = new MockHost(attach);
    await new NicTask(host).start();
    for (let n = 0; n < 5; n++) await die(host);
    expect(host.delays).toEqual([500, 1000, 2000, 4000]);
    expect(host.unmounts).toEqual([false, false, false, false, false, true]);
    expect(host.lines.at(-1)).toContain('5 times within a minute');
  });

  it('forgets deaths that are long ago', async () => {
    const host = new MockHost(attach);
    await new NicTask(host).start();
    for (let n = 0; n < 8; n++) {
      host.pass(61_000);
      await die(host);
    }
    expect(host.delays).toEqual(new Array(8).fill(500));
    host.stop();
  });

  it('counts a driver that dies again before its first word', async () => {
    const host = new MockHost((handlers, life) => (life === 1 ? attach(handlers) : undefined));
    await new NicTask(host).start();
    for (let n = 0; n < 5; n++) await die(host);
    expect(host.unmounts.at(-1)).toBe(true);
    expect(host.delays).toHaveLength(4);
  });

  it('tries again when the new driver finds its NIC still taken', async () => {
    const host = new MockHost((handlers, life) => {
      if (life === 2) void handlers.failed({ reason: 'the function is in another space' } as never, CONTEXT);
      else attach(handlers);
    });
    await new NicTask(host).start();
    host.ends[0]?.({ exitCode: 0, killed: true });
    await expect.poll(() => host.ends.length).toBe(3);
    expect(host.lines.at(-1)).toContain('NIC is back');
    expect(host.lines.join('\n')).toContain('its driver failed (the function is in another space)');
    expect([host.delays, host.unmounts]).toEqual([
      [500, 1000],
      [false, false],
    ]);
  });
});
