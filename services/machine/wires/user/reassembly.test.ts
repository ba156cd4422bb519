import { describe, expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { put16 } from '#common/wire/bytes';
import { finish, sumOf } from '#common/wire/checksum';
import { ETHERTYPE, emitEthernet } from '#common/wire/ethernet';
import { checkIpv4, emitIpv4, IPV4, ipv4ChecksumOk, ipv4TotalLength } from '#common/wire/ipv4';
import { Reassembly } from './reassembly.ts';

const IP = 14;
const BODY = 34;
const PAYLOAD = Uint8Array.from({ length: 5000 }, (_, i) => i * 7);

interface Piece {
  readonly from: number;
  readonly end: number;
  /** As if there came more; default: when the payload goes on. */
  readonly more?: boolean;
  readonly id?: number;
  readonly source?: number;
  readonly bytes?: Uint8Array;
}

function setup() {
  const arena = new Arena(2 ** 22);
  const frame = arena.mapPrivate(4096);
  let now = 1;
  const reassembly = new Reassembly(arena, () => now);
  const { u8 } = arena;
  /** What `whole` makes of a fragment: the payload of the datagram, undefined when more is missing. */
  const add = ({ from, end, more = end < PAYLOAD.length, id = 1, source = 1, bytes = PAYLOAD }: Piece) => {
    emitEthernet(u8, frame, new Uint8Array(6).fill(1), new Uint8Array(6).fill(2), ETHERTYPE.IPV4);
    emitIpv4(u8, frame + IP, end - from, 17, source, 2);
    put16(u8, frame + IP + IPV4.ID, id);
    put16(u8, frame + IP + IPV4.FRAGMENT, (from >>> 3) | (more ? 0x2000 : 0));
    put16(u8, frame + IP + IPV4.CHECKSUM, 0);
    put16(u8, frame + IP + IPV4.CHECKSUM, finish(sumOf(u8, frame + IP, 20)));
    u8.set(bytes.subarray(from, end), frame + BODY);
    const at = reassembly.whole(frame, BODY + end - from);
    if (at < 0) return undefined;
    const length = reassembly.length - IP;
    expect(checkIpv4(u8, at + IP, length)).toBe(20);
    expect([ipv4TotalLength(u8, at + IP), ipv4ChecksumOk(u8, at + IP, 20)]).toEqual([length, true]);
    expect([...u8.subarray(at, at + 14)]).toEqual([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0]);
    return Buffer.from(u8.slice(at + BODY, at + BODY + length - 20));
  };
  const wait = (ms: number) => {
    now += ms;
  };
  return { arena, frame, reassembly, add, wait };
}

const PIECES: readonly Piece[] = [0, 1480, 2960, 4440].map((from) => ({
  from,
  end: Math.min(from + 1480, 5000),
}));
const [A, B, C, D] = PIECES as [Piece, Piece, Piece, Piece];

describe('Reassembly', () => {
  it('leaves everything else as it is', () => {
    const { arena, frame, reassembly } = setup();
    emitEthernet(arena.u8, frame, new Uint8Array(6), new Uint8Array(6), ETHERTYPE.IPV4);
    emitIpv4(arena.u8, frame + IP, 26, 17, 1, 2);
    expect([reassembly.whole(frame, 60), reassembly.length]).toEqual([frame, 60]);
    emitEthernet(arena.u8, frame, new Uint8Array(6), new Uint8Array(6), ETHERTYPE.ARP);
    put16(arena.u8, frame + IP + IPV4.FRAGMENT, 1);
    expect([reassembly.whole(frame, 60), reassembly.length]).toEqual([frame, 60]);
    expect(reassembly.whole(frame, 20)).toBe(frame);
  });

  it.each([[[A, B, C, D]], [[D, C, B, A]], [[C, A, D, B]]])(
    'puts fragments together in any order',
    (pieces) => {
      const { add } = setup();
      const results = pieces.map(add);
      expect(results.slice(0, -1)).toEqual([undefined, undefined, undefined]);
      expect(results.at(-1)?.equals(PAYLOAD)).toBe(true);
      // And again with the same identification.
      expect(pieces.map(add).at(-1)?.equals(PAYLOAD)).toBe(true);
    },
  );

  it('tells datagrams apart by identification and source', () => {
    const { add } = setup();
    const other = PAYLOAD.map((byte) => byte ^ 0xff);
    for (const piece of [A, B, C]) {
      add(piece);
      add({ ...piece, id: 2, bytes: other });
      add({ ...piece, source: 9, bytes: other });
    }
    expect(add({ ...D, id: 2, bytes: other })?.equals(other)).toBe(true);
    expect(add(D)?.equals(PAYLOAD)).toBe(true);
    expect(add({ ...D, source: 9, bytes: other })?.equals(other)).toBe(true);
  });

  it.each([
    ['overlaps another', { from: 1472, end: 2952 }],
    ['comes twice', B],
    ['is the end, and something lies behind it', { from: 8, end: 1000, more: false }],
    ['goes on, and is not a multiple of 8', { from: 2960, end: 4439, more: true }],
    [
      'is longer than a datagram can be',
      { from: 65_528, end: 65_600, more: true, bytes: new Uint8Array(70_000) },
    ],
    ['lies behind the end', { from: 5000, end: 5008, more: true, bytes: new Uint8Array(6000) }],
    ['is another end', { from: 2960, end: 2961, more: false }],
  ] as [string, Piece][])('gives a datagram up when a fragment %s', (_what, odd) => {
    const { add } = setup();
    for (const piece of [B, D]) expect(add(piece)).toBeUndefined();
    expect(add(odd)).toBeUndefined();
    expect([A, C].map(add)).toEqual([undefined, undefined]);
    // What has come behind the odd one is the beginning of a new one.
    expect([B, D].map(add).at(-1)?.equals(PAYLOAD)).toBe(true);
  });

  it('does not take a fragment whose header is damaged', () => {
    const { arena, frame, reassembly, add } = setup();
    for (const piece of [A, B, C]) add(piece);
    emitIpv4(arena.u8, frame + IP, 560, 17, 1, 2);
    put16(arena.u8, frame + IP + IPV4.FRAGMENT, 555);
    expect(reassembly.whole(frame, BODY + 560)).toBe(-1);
    expect(add(D)?.equals(PAYLOAD)).toBe(true);
  });

  it('puts the longest datagram together', () => {
    const { add } = setup();
    const bytes = Uint8Array.from({ length: 65_515 }, (_, i) => i * 11);
    let last: Buffer | undefined;
    for (let from = 0; from < bytes.length; from += 1480) {
      const end = Math.min(from + 1480, bytes.length);
      last = add({ from, end, more: end < bytes.length, bytes });
    }
    expect(last?.equals(bytes)).toBe(true);
  });

  it('gives the oldest up when many are under way, and those that wait for longer than 30 s', () => {
    const { add, wait } = setup();
    for (let id = 0; id < 9; id++) {
      for (const piece of [A, B, C]) add({ ...piece, id });
      wait(1);
    }
    expect(add({ ...D, id: 0 })).toBeUndefined();
    expect(add({ ...D, id: 8 })?.equals(PAYLOAD)).toBe(true);
    wait(30_001);
    expect(add({ ...D, id: 7 })).toBeUndefined();
  });
});
