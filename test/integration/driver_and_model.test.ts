/**
 * The e1000 driver library against the machine's e1000 model, in one process: registers are called
 * directly, DMA goes through the machine's own DMA space.
 */
import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import type { RecvIrq } from '../../services/ixl/bringup/interrupts.ts';
import { systemClock } from '../../services/ixl/clock.ts';
import { completeCfg, type DevCfg } from '../../services/ixl/config.ts';
import type { IxlDevice } from '../../services/ixl/device.ts';
import { e1000Driver } from '../../services/ixl/drivers/e1000.ts';
import { BUFFER, lengthOf, setLength } from '../../services/ixl/memory/buffer.ts';
import type { DmaAllocator } from '../../services/ixl/memory/dma_memory.ts';
import { DmaSpace } from '../../services/machine/dma_space.ts';
import { E1000 } from '../../services/machine/e1000/e1000.ts';
import { FunctionDma } from '../../services/machine/function_dma.ts';
import { DMA_MAX, type NicHost, SCRATCH_BYTES } from '../../services/machine/nic_model.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);

interface Rig {
  readonly nic: IxlDevice;
  readonly model: E1000;
  readonly memory: Memory;
  readonly sent: Uint8Array[];
  readonly dma: FunctionDma;
  /** The wire offers a frame. */
  readonly receive: (bytes: Uint8Array) => boolean;
  readonly irqs: () => number;
}

async function rig(cfg: Partial<DevCfg> = {}): Promise<Rig> {
  const memory = new Memory(new ArrayBuffer(32 * 2 ** 20));
  let next = 4096;
  const take = (size: number): number => {
    const at = next;
    next += Math.ceil(size / 4096) * 4096;
    return at;
  };
  const space = new DmaSpace();
  const ones = take(DMA_MAX);
  memory.u8.fill(0xff, ones, ones + DMA_MAX);
  const now = (): number => performance.now() * 1000;
  const dma = new FunctionDma({ name: 'test', ones, now, log: () => {} });
  dma.enabled = true;
  dma.assign(space);
  const sent: Uint8Array[] = [];
  let [level, masked, irqs] = [false, true, 0];
  let onIrq = (): void => {};
  const fire = (): void => {
    if (!level || masked) return;
    masked = true;
    irqs += 1;
    onIrq();
  };
  const host: NicHost = {
    memory,
    scratch: take(SCRATCH_BYTES),
    dma,
    setIrq: (asserted) => {
      level = asserted;
      fire();
    },
    now,
    setTimer: (at) => {
      if (at !== Infinity) setTimeout(() => model.timer(), Math.max(0, (at - now()) / 1000)).unref();
    },
    transmit: (offset, length) => void sent.push(memory.u8.slice(offset, offset + length)),
    log: () => {},
  };
  const model = new E1000(host, MAC);
  model.linkChanged(true);
  const irq: RecvIrq = {
    kind: 'legacy',
    irq: 11,
    listen: (next) => {
      onIrq = next;
    },
    unmask: () => {
      masked = false;
      fire();
    },
    close: async () => {},
  };
  const allocator: DmaAllocator = {
    allocate: async (size) => {
      const offset = take(size);
      const bytes = Math.ceil(size / 4096) * 4096;
      const ref = { name: '0'.repeat(32), size: bytes, writable: true };
      return { offset, size: bytes, address: space.map(offset, bytes, 0), ref };
    },
  };
  const device = await e1000Driver.create({
    cfg: completeCfg({ irqTimeoutMs: -1, txBuffers: 1024, ...cfg }),
    memory,
    mmio: model,
    dma: allocator,
    irqs: { msiOrLegacy: async () => irq },
    log: { info: () => {}, warn: () => {}, error: () => {} },
    clock: systemClock,
    release: async () => {},
  });
  const frameAt = take(4096);
  const receive = (bytes: Uint8Array): boolean => {
    memory.u8.set(bytes, frameAt);
    return model.receive(frameAt, bytes.length);
  };
  return { nic: device, model, memory, sent, dma, receive, irqs: () => irqs };
}

function frame(number: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(number & 0xff);
  bytes.set([0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 8, 0]);
  new DataView(bytes.buffer).setUint32(14, number);
  return bytes;
}

function take({ nic, memory }: Rig, count = 32): Uint8Array[] {
  const buffers = new Int32Array(count);
  const taken = nic.rxBatch(0, buffers, count);
  return [...buffers.subarray(0, taken)].map((buffer) => {
    const bytes = memory.u8.slice(buffer + BUFFER.DATA, buffer + BUFFER.DATA + lengthOf(memory, buffer));
    nic.freeBuffer(buffer);
    return bytes;
  });
}

describe('ixl on the e1000 model', () => {
  it('comes up with MAC and link', async () => {
    const { nic, dma } = await rig();
    expect([nic.getMacAddr(), nic.getLinkSpeed(), nic.getDriverName()]).toEqual([MAC, 1000, 'ixl-e1000']);
    expect(dma.faults).toBe(0);
  });

  it('receives frames of every length unchanged, without FCS, around the ring', async () => {
    const r = await rig();
    for (let n = 0; n < 1000; n++) {
      const bytes = frame(n, 60 + ((n * 7) % 1455));
      expect(r.receive(bytes)).toBe(true);
      const [got = new Uint8Array(0)] = take(r);
      expect(Buffer.compare(got, bytes)).toBe(0);
    }
    expect(r.dma.faults).toBe(0);
  });

  it('interrupts once, and again after ackIrq', async () => {
    const r = await rig();
    r.receive(frame(1, 60));
    r.receive(frame(2, 60));
    expect(r.irqs()).toBe(1);
    expect(r.nic.checkRecvIrq(0)).toBe(true);
    expect(take(r)).toHaveLength(2);
    r.nic.ackRecvIrq(0);
    expect(r.irqs()).toBe(1);
    r.receive(frame(3, 60));
    await expect.poll(r.irqs).toBe(2);
  });

  it('sends frames unchanged and gets every buffer back', async () => {
    const r = await rig();
    const { nic, memory } = r;
    const all: Uint8Array[] = [];
    const buffers = new Int32Array(32);
    for (let n = 0; n < 3200; n += 32) {
      for (let i = 0; i < 32; i++) {
        const bytes = frame(n + i, 60 + ((n + i) % 1455));
        all.push(bytes);
        const buffer = nic.txPool.alloc();
        memory.u8.set(bytes, buffer + BUFFER.DATA);
        setLength(memory, buffer, bytes.length);
        buffers[i] = buffer;
      }
      expect(nic.txBatch(0, buffers, 32)).toBe(32);
      while (r.model.poll());
    }
    expect(Buffer.compare(Buffer.concat(r.sent), Buffer.concat(all))).toBe(0);
    expect(nic.txRoom(0)).toBe(255);
    expect(nic.txPool.available).toBe(1024);
    expect(r.dma.faults).toBe(0);
  });

  it('counts in the statistics registers', async () => {
    const r = await rig();
    r.receive(frame(1, 100));
    const stats = { rxPackets: 0, txPackets: 0, rxBytes: 0, txBytes: 0 };
    r.nic.readStats(stats);
    expect(stats).toEqual({ rxPackets: 1, txPackets: 0, rxBytes: 104, txBytes: 0 });
  });

  it('reports a pulled cable', async () => {
    const r = await rig();
    r.model.linkChanged(false);
    expect(r.nic.getLinkSpeed()).toBe(0);
    expect(r.irqs()).toBe(1);
    r.model.linkChanged(true);
    expect(r.nic.getLinkSpeed()).toBe(1000);
  });

  it('does no DMA after close()', async () => {
    const r = await rig();
    await r.nic.close();
    r.receive(frame(1, 60));
    expect(r.nic.rxPending(0)).toBe(false);
  });
});
