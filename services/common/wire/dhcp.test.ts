import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import {
  BOOTREPLY,
  BOOTREQUEST,
  DHCP,
  DHCP_OPTION,
  DHCP_TYPE,
  type DhcpMessage,
  decodeDhcp,
  encodeDhcp,
} from './dhcp.ts';
import {
  addressesOption,
  dhcpType,
  optionAddresses,
  optionText,
  optionU16,
  optionU32,
  textOption,
  u8Option,
  u16Option,
  u32Option,
} from './dhcp_options.ts';
import { MalformedError } from './malformed.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);

function message(options: [number, Uint8Array][], fields: Partial<DhcpMessage> = {}): DhcpMessage {
  const zero = { ciaddr: 0, yiaddr: 0, siaddr: 0, giaddr: 0 };
  return {
    op: BOOTREQUEST,
    xid: 0x12345678,
    secs: 3,
    broadcast: true,
    chaddr: MAC,
    ...zero,
    options: new Map(options),
    ...fields,
  };
}

/** A discover as it goes over the cable, without its padding. */
const DISCOVER_HEAD =
  '0101060012345678000380000000000000000000000000000000000052540012345600000000000000000000';
const DISCOVER_OPTIONS = '63825363350101390205dc3703010306ff';

describe('encodeDhcp()', () => {
  it('writes a discover byte for byte and pads it to 300', () => {
    const bytes = new Uint8Array(310).fill(0xa5);
    const options: [number, Uint8Array][] = [
      [DHCP_OPTION.MAX_MESSAGE_SIZE, u16Option(1500)],
      [DHCP_OPTION.PARAMETER_LIST, Uint8Array.of(1, 3, 6)],
      [DHCP_OPTION.MESSAGE_TYPE, u8Option(DHCP_TYPE.DISCOVER)],
    ];
    expect(encodeDhcp(message(options), bytes, 5)).toBe(300);
    const written = Buffer.from(bytes.subarray(5, 305)).toString('hex');
    expect(written).toBe((DISCOVER_HEAD + '00'.repeat(192) + DISCOVER_OPTIONS).padEnd(600, '0'));
    expect([bytes[4], bytes[305]]).toEqual([0xa5, 0xa5]);
  });

  it('refuses a buffer that is too small', () => {
    expect(() => encodeDhcp(message([]), new Uint8Array(299), 0)).toThrow(
      /must fit the buffer: current length is 300, room is 299/,
    );
  });
});

describe('decodeDhcp()', () => {
  it('reads back what encodeDhcp() wrote, long options joined [RFC 3396]', () => {
    const long = Uint8Array.from({ length: 600 }, (_, i) => i);
    const sent = message(
      [
        [DHCP_OPTION.MESSAGE_TYPE, u8Option(DHCP_TYPE.ACK)],
        [DHCP_OPTION.DNS_SERVER, addressesOption([0x0a000203, 0x08080808])],
        [DHCP_OPTION.LEASE_TIME, u32Option(86400)],
        [DHCP_OPTION.DOMAIN_NAME, textOption('lab.example\0')],
        [DHCP_OPTION.HOST_NAME, new Uint8Array()],
        [250, long],
      ],
      { op: BOOTREPLY, yiaddr: 0x0a00020f, broadcast: false },
    );
    const bytes = new Uint8Array(1500);
    const got = decodeDhcp(bytes, 7, encodeDhcp(sent, bytes, 7));
    expect(got).toEqual(sent);
    expect([
      dhcpType(got),
      optionU32(got, DHCP_OPTION.LEASE_TIME),
      optionU16(got, DHCP_OPTION.LEASE_TIME),
    ]).toEqual([5, 86400, undefined]);
    expect(optionAddresses(got, DHCP_OPTION.DNS_SERVER)).toEqual([0x0a000203, 0x08080808]);
    expect(optionText(got, DHCP_OPTION.DOMAIN_NAME)).toBe('lab.example');
  });

  it('reads options in file and sname when option 52 says so', () => {
    const bytes = new Uint8Array(300);
    encodeDhcp(message([[DHCP_OPTION.OVERLOAD, u8Option(3)]]), bytes, 0);
    bytes.set([DHCP_OPTION.ROUTER, 4, 10, 0, 2, 2, 255], DHCP.FILE);
    bytes.set([DHCP_OPTION.MESSAGE_TYPE, 1, 2, 255], DHCP.SNAME);
    const got = decodeDhcp(bytes, 0, 300);
    expect([dhcpType(got), optionAddresses(got, DHCP_OPTION.ROUTER)]).toEqual([2, [0x0a000202]]);
  });

  it('says what is wrong', () => {
    const bytes = new Uint8Array(300);
    encodeDhcp(message([]), bytes, 0);
    expect(() => decodeDhcp(bytes, 0, 239)).toThrow(/at least 240 bytes: current value is 239/);
    expect(() => decodeDhcp(bytes.slice().fill(0, 236, 240), 0, 300)).toThrow(/magic cookie must be/);
    expect(() => decodeDhcp(bytes.slice().fill(9, 0, 1), 0, 300)).toThrow(
      /op must be 1 or 2: current value is 9/,
    );
    expect(() => decodeDhcp(bytes.slice().fill(0, 2, 3), 0, 300)).toThrow(/hlen 6/);
    expect(() => decodeDhcp(bytes.slice().fill(53, 299), 0, 300)).not.toThrow();
    expect(() => decodeDhcp(bytes.slice().fill(53, 240), 0, 300)).toThrow(/option 53/);
  });

  it('throws MalformedError and nothing else, whatever the bytes', () => {
    const good = new Uint8Array(300);
    encodeDhcp(message([[DHCP_OPTION.MESSAGE_TYPE, u8Option(1)]]), good, 0);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.integer({ min: 0, max: 300 }), (noise, length) => {
        const bytes = good.slice();
        bytes.set(noise, 240);
        try {
          decodeDhcp(bytes, 0, length);
        } catch (err) {
          expect(err).toBeInstanceOf(MalformedError);
        }
      }),
    );
  });
});
