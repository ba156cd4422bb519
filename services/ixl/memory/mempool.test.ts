import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { FakeDma } from '../testing/fake_dma.ts';
import { BUFFER } from './buffer.ts';
import { Mempool } from './mempool.ts';
import { PacketMemory } from './packet_memory.ts';

async function pool(count: number): Promise<{ pool: Mempool; dma: FakeDma; from: number }> {
  const dma = new FakeDma(2 ** 22);
  const chunk = await dma.allocate(count * BUFFER.SIZE);
  const result = new Mempool(dma.memory);
  result.add(chunk, 0, count);
  return { pool: result, dma, from: chunk.offset };
}

describe('Mempool', () => {
  it('hands out every buffer once, then -1', async () => {
    const { pool: p, from } = await pool(16);
    const got = Array.from({ length: 16 }, () => p.alloc());
    expect(got).toEqual(Array.from({ length: 16 }, (_, n) => from + n * 2048));
    expect([p.alloc(), p.available, p.capacity]).toEqual([-1, 0, 16]);
  });

  it('writes address and index into the header', async () => {
    const { pool: p, dma, from } = await pool(4);
    const buffer = from + 2 * BUFFER.SIZE;
    expect(dma.memory.view.getBigUint64(buffer, true)).toBe(BigInt(2 ** 32 + 2 * 2048 + 64));
    expect(dma.memory.view.getUint32(buffer + BUFFER.INDEX, true)).toBe(2);
    expect(p.owns(buffer)).toBe(true);
  });

  it.each([
    ['freed twice', 0, /free already/],
    ['inside a buffer', 64, /not a buffer/],
    ['outside of the pool', -2048, /not a buffer/],
  ])('refuses what is %s', async (_, distance, message) => {
    const { pool: p } = await pool(4);
    const buffer = p.alloc();
    if (distance === 0) p.free(buffer);
    expect(() => p.free(buffer + distance)).toThrow(message);
  });

  it('never has a buffer out twice, whatever the order', async () => {
    const { pool: p } = await pool(8);
    fc.assert(
      fc.property(fc.array(fc.nat(12), { maxLength: 200 }), (moves) => {
        const out: number[] = [];
        for (const move of moves) {
          if (move < 6 || out.length === 0) {
            const buffer = p.alloc();
            expect(buffer === -1).toBe(out.length === 8);
            expect(out).not.toContain(buffer);
            if (buffer >= 0) out.push(buffer);
          } else {
            p.free(out.splice(move % out.length, 1)[0] as number);
          }
          expect(p.available).toBe(8 - out.length);
        }
        for (const buffer of out) p.free(buffer);
      }),
    );
  });
});

describe('PacketMemory', () => {
  it('puts both pools into one memory, that a switch can register at once', async () => {
    const dma = new FakeDma(2 ** 22);
    const packets = await PacketMemory.create(dma.memory, dma, 512, 256);
    expect(dma.chunks).toHaveLength(1);
    expect(packets.shared.size).toBe(768 * 2048);
    const [rx, tx] = [packets.rxPool.alloc(), packets.txPool.alloc()];
    expect(packets.dmaAddress(tx) - packets.dmaAddress(rx)).toBe(512 * 2048);
    packets.free(tx);
    packets.free(rx);
    expect([packets.rxPool.available, packets.txPool.available]).toEqual([512, 256]);
  });

  it('grows by whole chunks when more is reserved, and never shrinks', async () => {
    const dma = new FakeDma(2 ** 24);
    const packets = await PacketMemory.create(dma.memory, dma, 512, 0);
    await packets.reserve(512);
    expect(packets.rxPool.capacity).toBe(512);
    await packets.reserve(513);
    expect(packets.rxPool.capacity).toBe(3 * 512);
    packets.cancel(1025);
    expect([packets.rxPool.capacity, packets.reserved]).toEqual([3 * 512, 0]);
    for (let n = 0; n < 3 * 512; n++) packets.dmaAddress(packets.rxPool.alloc());
  });

  it('stays within 2^28 bytes', async () => {
    const dma = new FakeDma(2 ** 24);
    const packets = await PacketMemory.create(dma.memory, dma, 512, 0);
    await expect(packets.reserve(2 ** 17 + 1)).rejects.toThrow(/must stay within 268435456 bytes/);
    expect(packets.rxPool.capacity).toBe(512);
  });

  it('refuses offsets that are no packet memory', async () => {
    const dma = new FakeDma(2 ** 22);
    const packets = await PacketMemory.create(dma.memory, dma, 512, 0);
    expect(() => packets.dmaAddress(0)).toThrow(/no packet memory/);
    expect(() => packets.free(0)).toThrow(/no pool/);
  });
});
