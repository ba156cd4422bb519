import { describe, expect, it } from 'vitest';
import { BOOTREPLY, BOOTREQUEST, DHCP_OPTION, DHCP_TYPE, type DhcpMessage } from '#common/wire/dhcp';
import { dhcpType, optionText, optionU32, u8Option, u32Option } from '#common/wire/dhcp_options';
import { formatIpv4, parseIpv4 } from '#common/wire/ipv4';
import { DhcpServer, dhcpDestination } from './dhcp_server.ts';
import { DEFAULT_NETWORK } from './network.ts';

const ip = (text: string) => parseIpv4(text) as number;
const { DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM } = DHCP_TYPE;
const { REQUESTED_IP, SERVER_ID } = DHCP_OPTION;
const US = DEFAULT_NETWORK.gateway;
const DAY = 86_400_000;

interface Fields {
  readonly ciaddr?: string;
  readonly requested?: string;
  readonly server?: string;
  readonly over?: Partial<DhcpMessage>;
}

function setup(taken: readonly string[] = []) {
  const clock = { now: 1000 };
  const warnings: string[] = [];
  const server = new DhcpServer(
    DEFAULT_NETWORK,
    taken.map(ip),
    () => clock.now,
    (text) => warnings.push(text),
  );
  const send = (client: number, type: number, fields: Fields = {}) =>
    server.answer(message(client, type, fields));
  /** Discovers and selects; the address, or undefined without an offer. */
  const join = (client: number, requested?: string): string | undefined => {
    const offer = send(client, DISCOVER, requested === undefined ? {} : { requested });
    if (offer === undefined) return undefined;
    const address = formatIpv4(offer.yiaddr);
    const ack = send(client, REQUEST, { requested: address, server: '10.0.2.2' });
    expect(text(ack)).toBe(`ACK ${address}`);
    return address;
  };
  return { clock, warnings, send, join };
}

function message(client: number, type: number, { ciaddr, requested, server, over }: Fields): DhcpMessage {
  const options = new Map([[DHCP_OPTION.MESSAGE_TYPE as number, u8Option(type)]]);
  if (requested !== undefined) options.set(REQUESTED_IP, u32Option(ip(requested)));
  if (server !== undefined) options.set(SERVER_ID, u32Option(ip(server)));
  const chaddr = Uint8Array.of(0x52, 0x54, 0, 0, client >>> 8, client & 0xff);
  const zero = { secs: 7, broadcast: false, yiaddr: 0, siaddr: 0, giaddr: 0 };
  const address = ciaddr === undefined ? 0 : ip(ciaddr);
  return { op: BOOTREQUEST, xid: 0xdeadbeef, ...zero, ciaddr: address, chaddr, options, ...over };
}

function text(reply: DhcpMessage | undefined): string {
  if (reply === undefined) return 'nothing';
  const name = { [OFFER]: 'OFFER', [ACK]: 'ACK', [NAK]: 'NAK' }[dhcpType(reply)] ?? '?';
  return name === 'NAK' ? name : `${name} ${formatIpv4(reply.yiaddr)}`;
}

describe('DhcpServer.answer()', () => {
  it('offers the documented first address with the options of libslirp', () => {
    const { send } = setup();
    const offer = send(1, DISCOVER, { over: { broadcast: true } }) as DhcpMessage;
    expect(text(offer)).toBe('OFFER 10.0.2.15');
    expect(offer).toMatchObject({ op: BOOTREPLY, xid: 0xdeadbeef, broadcast: true, ciaddr: 0, siaddr: US });
    expect(offer.chaddr).toEqual(Uint8Array.of(0x52, 0x54, 0, 0, 0, 1));
    const option = (code: number) => optionU32(offer, code);
    expect(option(DHCP_OPTION.SUBNET_MASK)).toBe(0xffffff00);
    expect(option(DHCP_OPTION.ROUTER)).toBe(US);
    expect(option(DHCP_OPTION.DNS_SERVER)).toBe(DEFAULT_NETWORK.dns);
    expect(option(SERVER_ID)).toBe(US);
    expect(option(DHCP_OPTION.LEASE_TIME)).toBe(86_400);
    expect(optionText(offer, DHCP_OPTION.HOST_NAME)).toBe('l4lab');
  });

  it('gives each client another address, and the same client the same again', () => {
    const { send, join, clock } = setup();
    expect([join(1), join(2), join(1)]).toEqual(['10.0.2.15', '10.0.2.16', '10.0.2.15']);
    clock.now += 2 * DAY;
    expect([join(3), join(2), text(send(1, DISCOVER))]).toEqual([
      '10.0.2.17',
      '10.0.2.16',
      'OFFER 10.0.2.15',
    ]);
  });

  it('gives the address that a client wishes for when it is free', () => {
    const { join } = setup(['10.0.2.100']);
    expect(join(1, '10.0.2.50')).toBe('10.0.2.50');
    const others = ['10.0.2.50', '10.0.2.100', '10.0.2.2', '10.0.2.255', '192.168.0.9'];
    expect(others.map((wish, i) => join(2 + i, wish))).toEqual(
      [15, 16, 17, 18, 19].map((n) => `10.0.2.${n}`),
    );
  });

  it('leases the whole pool without the taken addresses, then says that it is empty', () => {
    const { join, warnings, clock } = setup(['10.0.2.100', '10.0.2.15', '203.0.113.7']);
    const leased = Array.from({ length: 238 }, (_, i) => join(i));
    expect(new Set(leased).size).toBe(238);
    expect([leased[0], leased[237]]).toEqual(['10.0.2.16', '10.0.2.254']);
    expect(leased).not.toContain('10.0.2.100');
    expect(join(1000)).toBeUndefined();
    expect(warnings).toEqual([expect.stringMatching(/^Cannot lease .* all 238 are leased/)]);
    clock.now += DAY - 1;
    expect(join(1000)).toBeUndefined();
    clock.now += 1;
    expect(join(1000)).toBe('10.0.2.16');
  });

  it('reuses the address that has been free longest, and forgets who had it', () => {
    const { send, join, clock } = setup();
    for (let i = 0; i < 240; i++) join(i);
    for (const client of [9, 4, 7]) {
      clock.now += 10;
      send(client, RELEASE, { ciaddr: `10.0.2.${15 + client}`, server: '10.0.2.2' });
    }
    expect([join(500), join(501)]).toEqual(['10.0.2.24', '10.0.2.19']);
    // Client 7 comes back before anybody else needs its address; client 9 does not.
    expect([join(7), join(9)]).toEqual(['10.0.2.22', undefined]);
    expect(text(send(9, REQUEST, { requested: '10.0.2.24' }))).toBe('NAK');
  });

  it('takes back the oldest offer when nothing else is left', () => {
    const { send, join, clock } = setup();
    for (let i = 0; i < 238; i++) join(i);
    expect(text(send(300, DISCOVER))).toBe('OFFER 10.0.2.253');
    clock.now += 1;
    expect(text(send(301, DISCOVER))).toBe('OFFER 10.0.2.254');
    expect(join(302)).toBe('10.0.2.253');
    expect(text(send(300, REQUEST, { requested: '10.0.2.253', server: '10.0.2.2' }))).toBe('NAK');
  });

  it('withdraws its offer when the client selects another server, but no lease', () => {
    const { send, join } = setup();
    for (let i = 0; i < 239; i++) join(i);
    send(300, DISCOVER);
    expect(text(send(300, REQUEST, { requested: '10.0.2.254', server: '10.0.2.9' }))).toBe('nothing');
    expect(text(send(0, REQUEST, { requested: '10.0.2.15', server: '10.0.2.9' }))).toBe('nothing');
    expect([join(301), join(302)]).toEqual(['10.0.2.254', undefined]);
  });

  it('renews, rebinds and confirms after a reboot, and refuses what is not the client’s', () => {
    const { send, join } = setup();
    join(1);
    join(2);
    expect(text(send(1, REQUEST, { ciaddr: '10.0.2.15' }))).toBe('ACK 10.0.2.15');
    expect(send(1, REQUEST, { ciaddr: '10.0.2.15' })?.ciaddr).toBe(ip('10.0.2.15'));
    expect(text(send(1, REQUEST, { requested: '10.0.2.15' }))).toBe('ACK 10.0.2.15');
    for (const address of ['10.0.2.16', '10.0.2.77', '192.168.1.5', '10.0.2.2']) {
      expect(text(send(1, REQUEST, { requested: address }))).toBe('NAK');
      expect(text(send(1, REQUEST, { ciaddr: address }))).toBe('NAK');
    }
    // A guest that outlived the last lab keeps a free address.
    expect(text(send(3, REQUEST, { requested: '10.0.2.40' }))).toBe('ACK 10.0.2.40');
    expect(text(send(4, REQUEST, { requested: '10.0.2.40' }))).toBe('NAK');
  });

  it('extends the lease with each renewal', () => {
    const { send, join, clock } = setup();
    for (let i = 0; i < 240; i++) join(i);
    clock.now += DAY / 2;
    send(0, REQUEST, { ciaddr: '10.0.2.15' });
    clock.now += DAY / 2;
    expect(join(500)).toBe('10.0.2.16');
    expect(text(send(501, REQUEST, { requested: '10.0.2.15' }))).toBe('NAK');
  });

  it('does not offer a declined address for 10 minutes', () => {
    const { send, join, clock, warnings } = setup();
    join(1);
    expect(send(2, DECLINE, { requested: '10.0.2.15', server: '10.0.2.2' })).toBeUndefined();
    expect(warnings).toEqual([]);
    expect(send(1, DECLINE, { requested: '10.0.2.15', server: '10.0.2.2' })).toBeUndefined();
    expect(warnings).toEqual([expect.stringMatching(/52:54:00:00:00:01 declined 10\.0\.2\.15/)]);
    expect([join(1), join(2, '10.0.2.15')]).toEqual(['10.0.2.16', '10.0.2.17']);
    clock.now += 600_000;
    expect(join(3, '10.0.2.15')).toBe('10.0.2.15');
  });

  it('releases only the client’s own address', () => {
    const { send, join } = setup();
    join(1);
    send(2, RELEASE, { ciaddr: '10.0.2.15', server: '10.0.2.2' });
    send(1, RELEASE, { ciaddr: '10.0.2.15', server: '10.0.2.9' });
    expect(join(2, '10.0.2.15')).toBe('10.0.2.16');
    send(1, RELEASE, { ciaddr: '10.0.2.15', server: '10.0.2.2' });
    expect(join(3, '10.0.2.15')).toBe('10.0.2.15');
  });

  it('informs a guest with an address of its own', () => {
    const { send } = setup();
    const ack = send(1, INFORM, { ciaddr: '10.0.2.200' }) as DhcpMessage;
    expect([text(ack), ack.options.has(DHCP_OPTION.LEASE_TIME)]).toEqual(['ACK 0.0.0.0', false]);
    expect(optionU32(ack, DHCP_OPTION.ROUTER)).toBe(US);
    expect(send(1, INFORM, { ciaddr: '192.168.1.5' })).toBeUndefined();
  });

  it('is silent about what no client sends', () => {
    const { send } = setup();
    const odd: [number, Fields][] = [
      [DISCOVER, { over: { op: BOOTREPLY } }],
      [DISCOVER, { over: { giaddr: ip('10.0.2.9') } }],
      [DISCOVER, { over: { chaddr: new Uint8Array(6) } }],
      [DISCOVER, { over: { chaddr: new Uint8Array(6).fill(0xff) } }],
      [DISCOVER, { over: { options: new Map() } }],
      [REQUEST, {}],
      [OFFER, {}],
      [ACK, {}],
      [99, {}],
    ];
    for (const [type, fields] of odd) expect(send(1, type, fields)).toBeUndefined();
  });
});

describe('dhcpDestination()', () => {
  it('follows ciaddr, then the broadcast flag; a refusal is always broadcast', () => {
    const { send } = setup();
    const to = (type: number, fields: Fields) => {
      const reply = send(1, type, fields) as DhcpMessage;
      return formatIpv4(dhcpDestination(reply, message(1, type, fields)));
    };
    expect(to(DISCOVER, {})).toBe('10.0.2.15');
    expect(to(DISCOVER, { over: { broadcast: true } })).toBe('255.255.255.255');
    expect(to(REQUEST, { ciaddr: '10.0.2.15', over: { broadcast: true } })).toBe('10.0.2.15');
    expect(to(REQUEST, { ciaddr: '10.0.2.99' })).toBe('255.255.255.255');
    expect(to(INFORM, { ciaddr: '10.0.2.200' })).toBe('10.0.2.200');
  });
});
