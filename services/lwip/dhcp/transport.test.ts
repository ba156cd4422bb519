import { describe, expect, it, vi } from 'vitest';
import { Memory } from '#common/memory';
import fc from '#common/testing/fast_check';
import { put16 } from '#common/wire/bytes';
import { dhcpType } from '#common/wire/dhcp_options';
import { messageFor } from './messages.ts';
import { BROADCAST_IP, BROADCAST_MAC, dhcpFrame, dhcpTap, probeFrame } from './transport.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const DISCOVER = { verb: 'DISCOVER', xid: 0x11223344, secs: 0 } as const;

function setup(frame: Uint8Array, mac = MAC) {
  const memory = new Memory(new ArrayBuffer(4096));
  memory.u8.set(frame, 14);
  const heard = { message: vi.fn(), malformed: vi.fn(), arp: vi.fn() };
  return {
    heard,
    tap: dhcpTap(memory, mac, heard),
    verdict: () => dhcpTap(memory, mac, heard)(14, frame.length),
  };
}

/** The frame as a server would send it: ports swapped, checksum left out. */
function fromServer(): Uint8Array {
  const message = messageFor(DISCOVER, MAC, 'curl');
  const frame = dhcpFrame(message, Uint8Array.of(2, 0, 0, 0, 0, 9), { mac: BROADCAST_MAC, ip: BROADCAST_IP });
  put16(frame, 34, 67);
  put16(frame, 36, 68);
  put16(frame, 40, 0);
  return frame;
}

describe('dhcpFrame()', () => {
  it('is a broadcast from 0.0.0.0:68 to 255.255.255.255:67', () => {
    const frame = dhcpFrame(messageFor(DISCOVER, MAC, ''), MAC, { mac: BROADCAST_MAC, ip: BROADCAST_IP });
    expect(Buffer.from(frame.subarray(0, 14)).toString('hex')).toBe('ffffffffffff5254001234560800');
    expect(Buffer.from(frame.subarray(26, 38)).toString('hex')).toBe('00000000ffffffff00440043');
    expect(frame.length).toBe(14 + 20 + 8 + 300);
  });
});

describe('probeFrame()', () => {
  it('asks for the address in nobodys name [RFC 5227 §2.1.1]', () => {
    expect(Buffer.from(probeFrame(0x0a00020f, MAC)).toString('hex')).toBe(
      `ffffffffffff${'525400123456'}08060001080006040001${'525400123456'}00000000${'000000000000'}0a00020f`,
    );
  });
});

describe('dhcpTap()', () => {
  it('takes messages for port 68 with the MAC of their sender', () => {
    const { heard, verdict } = setup(fromServer());
    expect(verdict()).toBe(true);
    const [message, sender] = heard.message.mock.calls[0] ?? [];
    expect([dhcpType(message), [...sender]]).toEqual([1, [2, 0, 0, 0, 0, 9]]);
  });

  it('reports ARP of others and leaves the frame to lwIP', () => {
    const probe = probeFrame(1, MAC);
    probe.set([10, 0, 2, 15], 14 + 14);
    expect(setup(probe).verdict()).toBe(false);
    const other = setup(probe, Uint8Array.of(2, 0, 0, 0, 0, 1));
    expect([other.verdict(), other.heard.arp.mock.calls]).toEqual([false, [[0x0a00020f]]]);
  });

  it('leaves everything else to lwIP and never throws', () => {
    const valid = fromServer();
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 12 }),
        fc.nat(valid.length),
        (changes, length) => {
          const frame = valid.slice();
          for (const [at, value] of changes) frame[at] = value;
          setup(frame.subarray(0, length)).verdict();
        },
      ),
    );
  });

  it('reports what is no DHCP message', () => {
    const frame = fromServer();
    frame[14 + 20 + 8 + 236] = 0;
    const { heard, verdict } = setup(frame);
    expect(verdict()).toBe(true);
    expect(heard.malformed.mock.calls[0]?.[0]).toMatch(/cookie/);
  });
});
