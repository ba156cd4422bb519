import { expect, it } from 'vitest';
import { Memory } from '#common/memory';
import * as h from './net_header.ts';

it('reads every field of a header, at any alignment', () => {
  const memory = new Memory(new ArrayBuffer(32));
  memory.u8.fill(0xa5);
  // NEEDS_CSUM, TCPv4, hdr_len 66, gso_size 1448, csum_start 34, csum_offset 16, num_buffers 2
  memory.u8.set([1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 2, 0], 3);
  const read = [h.flags, h.gsoType, h.hdrLen, h.gsoSize, h.csumStart, h.csumOffset, h.numBuffers];
  expect(read.map((field) => field(memory, 3))).toEqual([1, h.NET_HDR_GSO_TCPV4, 66, 1448, 34, 16, 2]);
});

it('writes a plain header over whatever was there, and nothing around it', () => {
  const memory = new Memory(new ArrayBuffer(16));
  memory.u8.fill(0xa5);
  h.writePlainHeader(memory, 1, 12, 0x102);
  expect([...memory.u8]).toEqual([0xa5, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0xa5, 0xa5, 0xa5]);
  h.setNumBuffers(memory, 1, 0x304);
  expect(h.numBuffers(memory, 1)).toBe(0x304);
});
