import { describe, expect, it, vi } from 'vitest';
import fc from '#common/testing/fast_check';
import { Memory } from '../memory.ts';
import { DROP, dropComment, dropKey, dropText } from './drop_reasons.ts';
import { CaptureError, INBOUND, OUTBOUND } from './pcapng.ts';
import { type CapturedPacket, PcapngReader } from './reader.ts';
import { PcapngWriter } from './writer.ts';

const fromHex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
const FRAME_AT = 16384;

function capture(write: (writer: PcapngWriter, memory: Memory) => void, bufferSize = 8192): Buffer {
  const memory = new Memory(new ArrayBuffer(65536));
  memory.u8.fill(0xa5);
  const parts: Buffer[] = [];
  const writer = new PcapngWriter(memory, 4096, bufferSize, (at, length) =>
    parts.push(Buffer.from(memory.u8.slice(at, at + length))),
  );
  write(writer, memory);
  writer.flush();
  expect([memory.u8[4095], memory.u8[4096 + bufferSize]]).toEqual([0xa5, 0xa5]);
  return Buffer.concat(parts);
}

function readAll(bytes: Uint8Array, step = bytes.length): CapturedPacket[] {
  const reader = new PcapngReader();
  const packets: CapturedPacket[] = [];
  for (let at = 0; at < bytes.length; at += step) packets.push(...reader.push(bytes.subarray(at, at + step)));
  reader.end();
  return packets;
}

const SECTION = `0a0d0d0a 28000000 4d3c2b1a 0100 0000 ffffffffffffffff 0400 0300 6c346c00 00000000 28000000`;
const INTERFACE = `01000000 28000000 0100 0000 00000000 0200 0400 6e696330 0900 0100 09000000 00000000 28000000`;
const TIME_MS = 1_700_000_000_123.5;

describe('PcapngWriter', () => {
  it('writes section, interface and packet byte for byte', () => {
    const bytes = capture((writer, memory) => {
      writer.section('l4l');
      expect(writer.interface('nic0')).toBe(0);
      memory.u8.set([1, 2, 3, 4, 5], FRAME_AT);
      writer.packet(0, TIME_MS, OUTBOUND, FRAME_AT, 5);
    });
    const time = 1_700_000_000_123_500_000n;
    const le32 = (value: bigint) => {
      const word = Buffer.alloc(4);
      word.writeUInt32LE(Number(value));
      return word.toString('hex');
    };
    const packet = `06000000 34000000 00000000 ${le32(time >> 32n)} ${le32(time & 0xffffffffn)} 05000000 05000000
      0102030405000000 0200 0400 02000000 00000000 34000000`;
    expect(bytes.toString('hex')).toBe(Buffer.from(fromHex(SECTION + INTERFACE + packet)).toString('hex'));
  });

  it('keeps every timestamp to the microsecond', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4_000_000_000_000 }), (ms) => {
        const [packet] = readAll(
          capture((writer) => {
            writer.section('t');
            writer.interface('i');
            writer.packet(0, ms, INBOUND, FRAME_AT, 60);
          }),
        );
        expect(packet?.timeNs).toBe(BigInt(ms) * 1_000_000n);
      }),
    );
  });

  it('keeps nanoseconds, the original length of a cut frame, and what the interface lost', () => {
    const bytes = capture((writer) => {
      writer.section('t');
      writer.interface('i', '', 96);
      writer.packetAt(0, 1_700_000_000, 123_456_789, INBOUND, FRAME_AT, 96, 1514);
      writer.statistics(0, TIME_MS, 2 ** 40, 7);
    });
    const [packet] = readAll(bytes);
    expect(packet).toMatchObject({ timeNs: 1_700_000_000_123_456_789n, originalLength: 1514 });
    expect([packet?.bytes.length, packet?.interface.snapLength]).toEqual([96, 96]);
    const reader = new PcapngReader();
    reader.push(bytes);
    expect(reader.statistics).toMatchObject([{ interface: { name: 'i' }, received: 2 ** 40, dropped: 7 }]);
  });

  it('cuts a packet that is longer than its buffer and flushes when it is full', () => {
    const packets = readAll(
      capture((writer) => {
        writer.section('t');
        writer.interface('i');
        for (let i = 0; i < 9; i++) writer.packet(0, i, INBOUND, FRAME_AT, 9000);
      }, 4096),
    );
    expect(packets).toHaveLength(9);
    expect(packets[0]?.originalLength).toBe(9000);
    expect(packets[0]?.bytes.length).toBeGreaterThan(4000);
  });
});

describe('PcapngReader', () => {
  it('reads back frames, directions and drop reasons, in pieces of any size', () => {
    const bytes = capture((writer, memory) => {
      writer.section('test');
      writer.interface('nic0', 'e1000');
      memory.u8.set([9, 8, 7], FRAME_AT);
      writer.packet(0, TIME_MS, INBOUND, FRAME_AT, 3, dropComment(DROP.NO_DESCRIPTOR));
      writer.packet(0, TIME_MS + 1, OUTBOUND, FRAME_AT, 1);
    });
    for (const step of [1, 3, 7, bytes.length]) {
      const [first, second, ...more] = readAll(bytes, step);
      expect(more).toEqual([]);
      expect(first).toMatchObject({
        direction: INBOUND,
        bytes: Uint8Array.of(9, 8, 7),
        timeNs: 1_700_000_000_123_500_000n,
      });
      expect(first?.comment).toBe('dropped (no_descriptor): the receiver has no free descriptor');
      expect(second).toMatchObject({
        direction: OUTBOUND,
        comment: '',
        interface: { name: 'nic0', linkType: 1 },
      });
    }
  });

  it('reads big-endian files, simple packets and other resolutions', () => {
    const bytes = fromHex(`0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c
      00000001 00000020 0001 0000 00000004 0009 0001 83000000 0000 0000 00000020
      00000003 00000014 00000006 01020304 00000014
      0000000b 00000010 deadbeef 00000010
      00000006 00000024 00000000 00000000 00000008 00000002 00000002 aabb0000 00000024`);
    const [simple, enhanced] = readAll(bytes);
    expect(simple).toMatchObject({ bytes: Uint8Array.of(1, 2, 3, 4), originalLength: 6, timeNs: 0n });
    expect(enhanced).toMatchObject({ bytes: Uint8Array.of(0xaa, 0xbb), timeNs: 1_000_000_000n });
  });

  const refuse = (text: string) => () => readAll(fromHex(text));

  it('says what is wrong, and where', () => {
    expect(refuse('')).toThrow(/at byte 0 .*an empty file/);
    expect(refuse('d4c3b2a1 00000000 00000000')).toThrow(/classic pcap file/);
    expect(refuse('0a0d0d0a 1c000000 11111111')).toThrow(/byte-order magic/);
    expect(refuse(SECTION.slice(0, -9))).toThrow(/must end inside the file/);
    expect(refuse(`${SECTION} 01000000 ffffffff 00000000`)).toThrow(/at byte 40 as block length must be/);
    expect(refuse(`${SECTION} 01000000 0d000000 00000000`)).toThrow(/multiple of 4/);
    expect(refuse(`${SECTION} 0b000000 0c000000 10000000`)).toThrow(
      /both lengths of a block must be equal \(12\): current value is 16/,
    );
    expect(refuse(`${SECTION} 01000000 0c000000 0c000000`)).toThrow(
      /interface description must have at least 20/,
    );
    expect(refuse(`${SECTION} 03000000 10000000 01000000 10000000`)).toThrow(/interface id must be below 0/);
    expect(refuse(`${SECTION} ${INTERFACE} 03000000 10000000 01000000 10000000`)).toThrow(
      /captured length must fit its block \(0\)/,
    );
  });

  it('copies a long block that comes in small pieces a few times, not with each piece', () => {
    const section = fromHex(SECTION);
    const unknown = Buffer.alloc(2 ** 20);
    unknown.writeUInt32LE(0x0bad, 0);
    for (const at of [4, unknown.length - 4]) unknown.writeUInt32LE(unknown.length, at);
    let copied = 0;
    const set = Uint8Array.prototype.set;
    const spy = vi.spyOn(Uint8Array.prototype, 'set').mockImplementation(function (
      this: Uint8Array,
      ...args
    ) {
      copied += args[0].length;
      return set.apply(this, args);
    });
    try {
      expect(readAll(Buffer.concat([section, unknown, unknown]), 1000)).toEqual([]);
    } finally {
      spy.mockRestore();
    }
    expect(copied).toBeGreaterThan(unknown.length);
    expect(copied).toBeLessThan(10 * unknown.length);
  });

  it('throws CaptureError and nothing else, whatever the bytes', () => {
    const good = capture((writer) => {
      writer.section('test');
      writer.interface('nic0');
      writer.packet(0, TIME_MS, INBOUND, FRAME_AT, 60);
    });
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.uint8Array({ minLength: 1, maxLength: 12 }), (at, noise) => {
        const bytes = Buffer.concat([good, Buffer.alloc(12)]);
        bytes.set(noise.subarray(0, bytes.length - at), at);
        try {
          readAll(bytes);
        } catch (err) {
          expect(err).toBeInstanceOf(CaptureError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

it('every drop reason has a key and a text', () => {
  for (const reason of Object.values(DROP))
    expect([dropKey(reason), dropText(reason)]).not.toContain('unknown');
  expect(dropKey(DROP.LINK_DOWN)).toBe('link_down');
});
