import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { BOOTREPLY, DHCP_OPTION, DHCP_TYPE, type DhcpMessage } from '#common/wire/dhcp';
import { addressesOption, u8Option, u16Option, u32Option } from '#common/wire/dhcp_options';
import { type DhcpAction, DhcpMachine } from './machine.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const SERVER = 0x0a000202;
const IP = 0x0a00020f;
const LEASE_S = 1000;

/** A machine with a clock of its own and the messages a well-behaved server sends. */
function setup() {
  let now = 0;
  let xid = 0;
  const machine = new DhcpMachine({ mac: MAC, random: () => 0.5 });
  const log: DhcpAction[] = [];
  const note = (actions: readonly DhcpAction[]) => {
    for (const action of actions) if (action.kind === 'send') xid = action.intent.xid;
    log.push(...actions);
    return actions;
  };
  const reply = (
    type: number,
    change: Partial<DhcpMessage> = {},
    options: [number, Uint8Array][] = [],
  ): DhcpMessage => ({
    op: BOOTREPLY,
    xid,
    secs: 0,
    broadcast: false,
    ciaddr: 0,
    yiaddr: type === DHCP_TYPE.NAK ? 0 : IP,
    siaddr: 0,
    giaddr: 0,
    chaddr: MAC,
    options: new Map<number, Uint8Array>([
      [DHCP_OPTION.MESSAGE_TYPE, u8Option(type)],
      [DHCP_OPTION.SERVER_ID, u32Option(SERVER)],
      [DHCP_OPTION.SUBNET_MASK, u32Option(0xffffff00)],
      [DHCP_OPTION.ROUTER, addressesOption([SERVER])],
      [DHCP_OPTION.DNS_SERVER, addressesOption([0x0a000203])],
      [DHCP_OPTION.LEASE_TIME, u32Option(LEASE_S)],
      ...options,
    ]),
    ...change,
  });
  return {
    machine,
    log,
    start: () => note(machine.start(now)),
    /** Lets time pass to the next wake-up. */
    wake: () => {
      now = machine.wakeAt;
      return note(machine.tick(now));
    },
    hear: (...args: Parameters<typeof reply>) => note(machine.receive(now, reply(...args))),
    arp: (ip: number) => note(machine.arpSeen(now, ip)),
    stop: () => note(machine.stop(now)),
    verbs: () => log.map((action) => (action.kind === 'send' ? action.intent.verb : action.kind)),
    get now() {
      return now;
    },
  };
}

type Setup = ReturnType<typeof setup>;

function bind(s: Setup): void {
  s.start();
  s.hear(DHCP_TYPE.OFFER);
  s.hear(DHCP_TYPE.ACK);
  s.wake();
  s.wake();
}

describe('DhcpMachine', () => {
  it('discovers, requests, probes and configures', () => {
    const s = setup();
    bind(s);
    expect(s.verbs()).toEqual(['DISCOVER', 'REQUEST', 'probe', 'probe', 'configure']);
    expect(s.machine.state).toBe('BOUND');
    expect(s.machine.lease).toMatchObject({
      ip: IP,
      netmask: 0xffffff00,
      gateway: SERVER,
      dns: [0x0a000203],
      server: SERVER,
    });
    expect([s.machine.lease?.renewAt, s.machine.lease?.rebindAt, s.machine.lease?.expiresAt]).toEqual([
      500_000, 875_000, 1_000_000,
    ]);
  });

  it('repeats its DISCOVER at 1, 2, 4, ... 64 s [RFC 2131 §4.1]', () => {
    const s = setup();
    s.start();
    const waits: number[] = [];
    for (let n = 0; n < 8; n++) {
      const before = s.now;
      s.wake();
      waits.push((s.now - before) / 1000);
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 64]);
    expect(s.machine.progress.discoversSent).toBe(9);
  });

  it('starts over when its request is not answered', () => {
    const s = setup();
    s.start();
    s.hear(DHCP_TYPE.OFFER);
    for (let n = 0; n < 4; n++) s.wake();
    expect(s.verbs()).toEqual(['DISCOVER', 'REQUEST', 'REQUEST', 'REQUEST', 'REQUEST', 'DISCOVER']);
  });

  it('starts over at once on NAK', () => {
    const s = setup();
    s.start();
    s.hear(DHCP_TYPE.OFFER);
    s.hear(DHCP_TYPE.NAK);
    expect(s.verbs()).toEqual(['DISCOVER', 'REQUEST', 'DISCOVER']);
    expect(s.machine.progress).toMatchObject({
      naks: 1,
      ignored: ['server 10.0.2.2 refused 10.0.2.15 (NAK)'],
    });
  });

  it('declines an address that answers ARP and waits 10 s [RFC 2131 §3.1 (5)]', () => {
    const s = setup();
    s.start();
    s.hear(DHCP_TYPE.OFFER);
    s.hear(DHCP_TYPE.ACK);
    s.arp(0x0a0000ff);
    s.arp(IP);
    expect(s.verbs().at(-1)).toBe('DECLINE');
    const before = s.now;
    s.wake();
    expect([s.verbs().at(-1), s.now - before]).toEqual(['DISCOVER', 10_000]);
  });

  it('renews at T1, rebinds at T2, and loses the address at the end', () => {
    const s = setup();
    bind(s);
    s.wake();
    expect([s.machine.state, s.now]).toEqual(['RENEWING', 500_000]);
    while (s.machine.state === 'RENEWING') s.wake();
    expect([s.machine.state, s.now]).toEqual(['REBINDING', 875_000]);
    while (s.machine.state === 'REBINDING') s.wake();
    expect([s.machine.state, s.now]).toEqual(['SELECTING', 1_000_000]);
    const verbs = s.verbs();
    expect(verbs.filter((verb) => verb === 'RENEW').length).toBeGreaterThan(1);
    expect(verbs.slice(-2)).toEqual(['deconfigure', 'DISCOVER']);
  });

  it('goes on with a renewed lease', () => {
    const s = setup();
    bind(s);
    s.wake();
    s.hear(DHCP_TYPE.ACK);
    expect(s.machine.state).toBe('BOUND');
    expect(s.machine.lease?.expiresAt).toBe(1_500_000);
  });

  it('waits longer each time before it asks a network that refuses what it offers', () => {
    const s = setup();
    const waits: number[] = [];
    s.start();
    for (let n = 0; n < 9; n++) {
      s.hear(DHCP_TYPE.OFFER);
      expect(s.hear(DHCP_TYPE.NAK)).toHaveLength(n === 0 ? 1 : 0);
      expect(s.hear(DHCP_TYPE.NAK)).toEqual([]);
      if (n === 0) continue;
      waits.push(s.machine.wakeAt - s.now);
      s.wake();
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 64_000]);
    expect(s.machine.progress.naks).toBe(9);
    s.hear(DHCP_TYPE.OFFER);
    s.hear(DHCP_TYPE.ACK);
    s.wake();
    s.wake();
    expect(s.machine.state).toBe('BOUND');
  });

  it('remembers the last reasons only, however many come', () => {
    const s = setup();
    for (let n = 0; n < 100; n++) s.machine.note(`reason ${n}`);
    expect(s.machine.progress.ignored).toEqual([92, 93, 94, 95, 96, 97, 98, 99].map((n) => `reason ${n}`));
  });

  it('gives the address up when a renewal gets a NAK', () => {
    const s = setup();
    bind(s);
    s.wake();
    s.hear(DHCP_TYPE.NAK);
    expect(s.verbs().slice(-2)).toEqual(['deconfigure', 'DISCOVER']);
    expect(s.machine.lease).toBeUndefined();
  });

  it('releases on stop, and then keeps quiet', () => {
    const s = setup();
    bind(s);
    s.stop();
    expect(s.verbs().at(-1)).toBe('RELEASE');
    expect([s.machine.wakeAt, s.hear(DHCP_TYPE.OFFER), s.stop()]).toEqual([Number.POSITIVE_INFINITY, [], []]);
  });

  it.each<[string, Parameters<Setup['hear']>]>([
    ['transaction id', [DHCP_TYPE.OFFER, { xid: 1 }]],
    ['for 02:00:00:00:00:01', [DHCP_TYPE.OFFER, { chaddr: Uint8Array.of(2, 0, 0, 0, 0, 1) }]],
    ['was a request', [DHCP_TYPE.OFFER, { op: 1 }]],
    ['no host address', [DHCP_TYPE.OFFER, { yiaddr: 0 }]],
    ['no host address', [DHCP_TYPE.OFFER, { yiaddr: 0xe0000001 }]],
    ['which is none', [DHCP_TYPE.OFFER, {}, [[DHCP_OPTION.SUBNET_MASK, u32Option(0xff00ff00)]]]],
    ['no lease time', [DHCP_TYPE.OFFER, {}, [[DHCP_OPTION.LEASE_TIME, u8Option(1)]]]],
    ['names no server', [DHCP_TYPE.OFFER, {}, [[DHCP_OPTION.SERVER_ID, u8Option(1)]]]],
    ['type 9', [9, {}]],
  ])('ignores a message and says why: %s', (reason, message) => {
    const s = setup();
    s.start();
    expect(s.hear(...message)).toEqual([]);
    expect(s.machine.progress.ignored.join()).toContain(reason);
    expect(s.machine.state).toBe('SELECTING');
  });

  it('ignores an ACK for another address and a NAK of another server', () => {
    const s = setup();
    s.start();
    s.hear(DHCP_TYPE.OFFER);
    expect(s.hear(DHCP_TYPE.ACK, { yiaddr: IP + 1 })).toEqual([]);
    expect(s.hear(DHCP_TYPE.NAK, {}, [[DHCP_OPTION.SERVER_ID, u32Option(SERVER + 1)]])).toEqual([]);
    expect(s.machine.state).toBe('REQUESTING');
  });

  it('uses 1/2 and 7/8 when T1 and T2 are out of order, and takes MTUs from 68 on', () => {
    const s = setup();
    s.start();
    const odd: [number, Uint8Array][] = [
      [DHCP_OPTION.RENEWAL_TIME, u32Option(900)],
      [DHCP_OPTION.REBINDING_TIME, u32Option(100)],
      [DHCP_OPTION.INTERFACE_MTU, u16Option(20)],
    ];
    s.hear(DHCP_TYPE.OFFER, {}, odd);
    s.hear(DHCP_TYPE.ACK, {}, odd);
    s.wake();
    s.wake();
    expect(s.machine.lease).toMatchObject({ renewAt: 500_000, rebindAt: 875_000, mtu: undefined });
  });

  it('never renews an infinite lease', () => {
    const s = setup();
    s.start();
    const forever: [number, Uint8Array][] = [[DHCP_OPTION.LEASE_TIME, u32Option(0xffffffff)]];
    s.hear(DHCP_TYPE.OFFER, {}, forever);
    s.hear(DHCP_TYPE.ACK, {}, forever);
    s.wake();
    s.wake();
    expect(s.machine.wakeAt).toBe(Number.POSITIVE_INFINITY);
  });

  it('survives any sequence of messages: it waits for something or is bound', () => {
    const message = fc.record({
      type: fc.integer({ min: 0, max: 9 }),
      yiaddr: fc.constantFrom(IP, IP + 1, 0, 0xffffffff),
      server: fc.constantFrom(SERVER, SERVER + 1, 0),
      lease: fc.constantFrom(0, 1, 60, 0xffffffff),
    });
    const event = fc.oneof(message, fc.constant('wake' as const), fc.constant('arp' as const));
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        const s = setup();
        s.start();
        for (const each of events) {
          if (each === 'wake') {
            if (s.machine.wakeAt !== Number.POSITIVE_INFINITY) s.wake();
          } else if (each === 'arp') s.arp(IP);
          else {
            s.hear(each.type, { yiaddr: each.yiaddr }, [
              [DHCP_OPTION.SERVER_ID, u32Option(each.server)],
              [DHCP_OPTION.LEASE_TIME, u32Option(each.lease)],
            ]);
          }
          expect(s.machine.wakeAt).toBeGreaterThanOrEqual(s.now);
          if (s.machine.wakeAt === Number.POSITIVE_INFINITY) expect(s.machine.state).toBe('BOUND');
          expect(s.machine.lease !== undefined).toBe(
            ['BOUND', 'RENEWING', 'REBINDING'].includes(s.machine.state),
          );
        }
      }),
    );
  });
});
