/** Clock, log, interrupt and a started driver for tests. */
import type { RecvIrq } from '../bringup/interrupts.ts';
import type { Clock } from '../clock.ts';
import { completeCfg, type DevCfg } from '../config.ts';
import type { IxlDevice } from '../device.ts';
import { e1000Driver } from '../drivers/e1000.ts';
import type { Log } from '../log.ts';
import type { DmaAllocator } from '../memory/dma_memory.ts';
import { type DeviceView, FakeDma } from './fake_dma.ts';
import { FakeE1000 } from './fake_e1000.ts';

/** Time that passes only by sleeping. */
export class FakeClock implements Clock {
  time = 0;
  readonly sleeps: number[] = [];
  readonly now = (): number => this.time;

  sleep(ms: number): Promise<void> {
    this.sleeps.push(ms);
    this.time += ms;
    return new Promise((resolve) => setImmediate(resolve));
  }

  sleepInBackground(ms: number): Promise<void> {
    return this.sleep(ms);
  }
}

export class FakeLog implements Log {
  readonly lines: string[] = [];
  readonly info = (text: string): void => void this.lines.push(`[INFO ] ${text}`);
  readonly warn = (text: string): void => void this.lines.push(`[WARN ] ${text}`);
  readonly error = (text: string): void => void this.lines.push(`[ERROR] ${text}`);
}

/** A legacy interrupt that the test fires; masks itself like the real one. */
export class FakeIrq implements RecvIrq {
  readonly kind: 'legacy' | 'msi' = 'legacy';
  readonly irq = 11;
  masked = true;
  unmasks = 0;
  closed = false;
  #onIrq: () => void = () => {};
  #pending = false;

  listen(onIrq: () => void): void {
    this.#onIrq = onIrq;
  }

  fire(): void {
    if (this.masked) {
      this.#pending = true;
      return;
    }
    this.masked = true;
    this.#onIrq();
  }

  unmask(): void {
    this.unmasks += 1;
    this.masked = false;
    if (!this.#pending) return;
    this.#pending = false;
    this.fire();
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

export interface Bench<Dma extends DmaAllocator & DeviceView = FakeDma> {
  readonly device: IxlDevice;
  readonly nic: FakeE1000;
  readonly dma: Dma;
  readonly irq: FakeIrq;
  readonly log: FakeLog;
  readonly clock: FakeClock;
  /** The process with the NIC ends. */
  readonly endMachine: () => void;
}

/** An e1000 that the driver has brought up on the fake NIC. `prepare` may spoil it before. */
export function startE1000(
  cfg: Partial<DevCfg> = {},
  prepare: (nic: FakeE1000) => void = () => {},
): Promise<Bench> {
  return startE1000On(new FakeDma(16 * 2 ** 20), cfg, prepare);
}

export async function startE1000On<Dma extends DmaAllocator & DeviceView>(
  dma: Dma,
  cfg: Partial<DevCfg> = {},
  prepare: (nic: FakeE1000) => void = () => {},
): Promise<Bench<Dma>> {
  const [nic, irq, log, clock] = [new FakeE1000(dma), new FakeIrq(), new FakeLog(), new FakeClock()];
  nic.onIrq = () => irq.fire();
  prepare(nic);
  let endMachine: () => void = () => {};
  const machineGone = new Promise<void>((resolve) => {
    endMachine = resolve;
  });
  const full = completeCfg({ rxBuffers: 600, txBuffers: 300, irqTimeoutMs: -1, ...cfg });
  const device = await e1000Driver.create({
    cfg: full,
    memory: dma.memory,
    mmio: nic,
    dma,
    irqs: full.irqTimeoutMs === 0 ? undefined : { msiOrLegacy: () => Promise.resolve(irq) },
    log,
    clock,
    release: async () => irq.close(),
    machineGone,
  });
  return { device, nic, dma, irq, log, clock, endMachine };
}

/** A frame whose bytes tell its number. */
export function frame(number: number, length = 60): Uint8Array {
  const bytes = new Uint8Array(length).fill(number & 0xff);
  new DataView(bytes.buffer).setUint32(length - 4, number);
  return bytes;
}
