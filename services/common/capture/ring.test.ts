import { describe, expect, it } from 'vitest';
import { Memory } from '../memory.ts';
import { DROP } from './drop_reasons.ts';
import { INBOUND, OUTBOUND } from './pcapng.ts';
import { dataOffset, RING, ringBytes } from './ring.ts';
import { RingReader } from './ring_reader.ts';
import { RingWriter } from './ring_writer.ts';

const AT = 4096;
const CAPACITY = 1024;

function rings(interfaces = 2) {
  const bytes = ringBytes(interfaces, CAPACITY);
  const memory = new Memory(new ArrayBuffer(AT + bytes + 4096));
  memory.u8.fill(0xa5, AT + bytes);
  const rung: number[] = [];
  const writer = new RingWriter(memory, AT, interfaces, CAPACITY, () => rung.push(1));
  const reader = new RingReader(memory, AT, bytes, interfaces);
  const put = (id: number, frame: readonly number[], reason = -1, original = frame.length): boolean => {
    const at = writer.begin(id, frame.length);
    if (at < 0) return false;
    memory.u8.set(frame, at);
    writer.commit(id, original, id === 0 ? INBOUND : OUTBOUND, reason, 1_700_000_000, frame.length);
    return true;
  };
  const got = () => [...memory.u8.subarray(reader.record.at, reader.record.at + reader.record.captured)];
  return { memory, writer, reader, rung, put, got, bytes };
}

const frame = (n: number, length = 60) => Array.from({ length }, (_, i) => (n + i) & 0xff);

describe('capture ring', () => {
  it('hands every frame over as it was, around its end many times', () => {
    const { memory, reader, put, got, bytes } = rings();
    for (let n = 0; n < 500; n++) {
      const id = n & 1;
      const sent = frame(n, 14 + ((n * 37) % 300));
      expect(put(id, sent, n % 3 === 0 ? DROP.VLAN : -1, 9000)).toBe(true);
      expect(reader.next()).toBe(true);
      expect(got()).toEqual(sent);
      expect(reader.record).toMatchObject({
        interfaceId: id,
        direction: id === 0 ? INBOUND : OUTBOUND,
        reason: n % 3 === 0 ? DROP.VLAN : -1,
        original: 9000,
        seconds: 1_700_000_000,
        nanoseconds: sent.length,
      });
      reader.release();
    }
    expect(reader.next()).toBe(false);
    expect(memory.u8.subarray(AT + bytes).every((byte) => byte === 0xa5)).toBe(true);
  });

  it('loses what finds no room, counts it, and goes on when there is room again', () => {
    const { reader, put, got } = rings();
    let kept = 0;
    while (put(1, frame(kept))) kept += 1;
    expect(put(0, frame(0))).toBe(false);
    expect(reader.counts(0)).toEqual({ seen: 1, lost: 1 });
    expect(reader.counts(1)).toEqual({ seen: kept + 1, lost: 1 });
    for (let n = 0; n < kept; n++) {
      expect(reader.next()).toBe(true);
      expect(got()).toEqual(frame(n));
    }
    expect(put(0, frame(7))).toBe(false);
    reader.release();
    expect(put(0, frame(8))).toBe(true);
    expect([reader.next(), got()]).toEqual([true, frame(8)]);
  });

  it('rings only for a reader that sleeps, once', () => {
    const { writer, reader, put, rung } = rings();
    put(0, frame(0));
    expect([reader.arm(), rung.length]).toEqual([true, 0]);
    reader.next();
    expect(reader.arm()).toBe(false);
    put(0, frame(1));
    put(0, frame(2));
    expect(rung.length).toBe(1);
    while (reader.next());
    reader.arm();
    writer.end(1);
    expect([rung.length, reader.ended(0), reader.ended(1)]).toEqual([2, false, true]);
  });

  it('keeps the switch out of what a lying tail claims', () => {
    const { memory, put, bytes } = rings();
    for (const tail of [1, 8, CAPACITY, 0x7fff_ffff, 0xffff_fff8]) {
      memory.u32[(AT + RING.TAIL) >>> 2] = tail;
      for (let n = 0; n < 50; n++) put(0, frame(n));
    }
    expect(memory.u8.subarray(AT + bytes).every((byte) => byte === 0xa5)).toBe(true);
  });

  it.each([
    ['a size of 0', 0, 0],
    ['a size that is no multiple of 8', 20, 0],
    ['a record over the end', 2048, 60],
    ['a frame longer than its record', 64, 5000],
  ])('refuses %s', (_name, size, captured) => {
    const { memory, reader, put } = rings();
    put(0, frame(0));
    const at = AT + dataOffset(2);
    memory.u32[at >>> 2] = size;
    memory.u32[(at + 4) >>> 2] = captured;
    expect(() => reader.next()).toThrow('Cannot read capture ring');
  });

  it('refuses a ring whose size is impossible', () => {
    const memory = new Memory(new ArrayBuffer(65536));
    expect(() => new RingReader(memory, 0, 12288 + 8, 1)).toThrow('size is impossible');
    expect(() => new RingWriter(memory, 0, 1, 1000, () => {})).toThrow('power of two');
  });
});
