/** A port with a group, over sockets without a kernel: who is learned, and where frames go then. */
import { beforeEach, describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { formatIp, type Network, parseIp, parseNetwork } from '#common/udp/address';
import { sockaddrIp, writeSockaddr } from '#common/udp/sockaddr';
import type { Datagrams } from '#common/udp/socket';
import { ethernet, type MockClient } from '#common/vnet/testing/mock_client';
import { SCRATCH_BYTES } from '#common/vnet/virtio_port';
import { parseTunnelArguments } from '../factory_args.ts';
import { MockSwitch } from '../testing/mock_switch.ts';
import { IDLE_SECONDS, REMOTES_BYTES } from './remotes.ts';
import { MAX_REMOTES, type VxlanSpec } from './spec.ts';
import { Vtep } from './vtep.ts';
import { VxlanPort } from './vxlan_port.ts';

const TUNNEL = 3;

let lab: MockSwitch;
let tunnel: VxlanPort;
let vtep: Vtep;
let inbox: { frame: Uint8Array; from: string }[];
/** Where datagrams went. */
let sent: string[];
let ms: number;
let groups: string[];

/** The memory of the mock switch's clients 4 and up is nobody's: buffers of a socket are there. */
function socket(at: number): Datagrams {
  const { memory } = lab;
  return {
    losses: { tooLong: 0, full: 0, refused: 0 },
    receive: () => {
      const next = inbox.shift();
      if (!next) return 0;
      memory.u8.set([8, 0, 0, 0, 0, 0, 42, 0, ...next.frame], at + 64);
      writeSockaddr(memory, at, parseIp(next.from) as Uint8Array, 50_000);
      length = 8 + next.frame.length;
      return 1;
    },
    offset: () => at + 64,
    length: () => length,
    peer: () => at,
    slot: () => at + 32_768,
    send: (_slot, _bytes, peer) => void sent.push(formatIp(sockaddrIp(memory, peer))),
    flush: () => {},
    listen: () => {},
    unlisten: () => {},
    join: (group) => void groups.push(formatIp(group)),
    leave: (group) => void groups.splice(groups.indexOf(formatIp(group)), 1),
    close: () => {},
  };
}
let length = 0;

beforeEach(() => {
  lab = new MockSwitch();
  [inbox, sent, groups, ms] = [[], [], [], 0];
  const clients = [lab.add(), lab.add()];
  for (const client of clients) for (let n = 0; n < 64; n++) client.give();
  const base = 6 * 2 * 1024 * 1024;
  let sockets = base + SCRATCH_BYTES + REMOTES_BYTES;
  const open = () => {
    sockets += 65_536;
    return socket(sockets);
  };
  const env = { memory: lab.memory, open, activate: () => {}, clock: () => ms };
  vtep = new Vtep(env, { family: 4, port: 4789, device: 'x' });
  const spec = parseTunnelArguments(['vni=42', 'group=239.1.1.1', 'dev=x']).vxlan as VxlanSpec;
  tunnel = new VxlanPort({
    number: TUNNEL,
    spec,
    trunk: false,
    memory: lab.memory,
    scratch: base,
    remotesAt: base + SCRATCH_BYTES,
    scope: 2,
    senders: {
      networks: [parseNetwork('192.0.2.0/24') as Network, parseNetwork('10.0.0.0/8') as Network],
      own: [parseNetwork('192.0.2.1') as Network],
    },
    fabric: lab.forwarder,
    vtep,
    dropped: (reason) => lab.forwarder.counters.dropped(TUNNEL, reason),
  });
  lab.forwarder.connect(TUNNEL, tunnel, {});
  tunnel.open();
});

function heard(frame: Uint8Array, from: string): void {
  inbox.push({ frame, from });
  lab.scheduler.activate(TUNNEL);
  while (lab.scheduler.poll());
}

function send(to: number): string[] {
  sent = [];
  const client = lab.clients[0] as MockClient;
  client.send(ethernet(to, 0));
  lab.run(client);
  return sent;
}

const received = () => (lab.clients[1] as MockClient).received().length;

describe('VxlanPort with a group', () => {
  it('asks the group for who is not known, and then speaks with one end alone', () => {
    expect([groups, send(20), send(-1)]).toEqual([['239.1.1.1'], ['239.1.1.1'], ['239.1.1.1']]);
    heard(ethernet(-1, 20), '192.0.2.7');
    expect(received()).toBe(3);
    expect([send(20), send(21), send(-1)]).toEqual([['192.0.2.7'], ['239.1.1.1'], ['239.1.1.1']]);
    // The station moves.
    heard(ethernet(-1, 20), '192.0.2.8');
    expect([send(20), tunnel.remotes.size]).toEqual([['192.0.2.8'], 2]);
    tunnel.close();
    expect(groups).toEqual([]);
  });

  it('listens neither to others nor to itself', () => {
    heard(ethernet(-1, 20), '192.0.3.7');
    heard(ethernet(-1, 20), '192.0.2.1');
    expect([received(), lab.forwarder.counters.droppedFor(TUNNEL, DROP.FILTER)]).toEqual([0, 2]);
    expect([send(20), tunnel.remotes.size]).toEqual([['239.1.1.1'], 0]);
  });

  it('goes on by way of the group when forged senders have taken all places, until these are old', () => {
    heard(ethernet(-1, 19), '192.0.2.6');
    for (let n = 0; n < 1000; n++) heard(ethernet(-1, 30), `10.0.${n >>> 8}.${n & 255}`);
    expect(tunnel.remotes.size).toBe(MAX_REMOTES);
    lab.clients[1]?.received();
    for (let n = 0; n < 64; n++) lab.clients[1]?.give();
    // Who came too late is heard, and reached; who was there before keeps what it had.
    heard(ethernet(-1, 20), '192.0.2.7');
    expect([received(), send(20), send(19)]).toEqual([1, ['239.1.1.1'], ['192.0.2.6']]);
    // A station that moves to such an end is looked for where it is.
    heard(ethernet(-1, 19), '192.0.2.7');
    expect(send(19)).toEqual(['239.1.1.1']);
    ms = (IDLE_SECONDS + 1) * 1000;
    heard(ethernet(-1, 19), '192.0.2.6');
    heard(ethernet(-1, 20), '192.0.2.7');
    expect([send(20), send(19)]).toEqual([['192.0.2.7'], ['192.0.2.6']]);
  });

  it('sends nothing to an end whose place was taken, for the stations that were behind it', () => {
    for (let n = 1; n <= MAX_REMOTES; n++) heard(ethernet(-1, 100 + n), `10.1.${n >>> 8}.${n & 255}`);
    lab.forwarder.macs.flush(TUNNEL);
    ms = (IDLE_SECONDS + 1) * 1000;
    heard(ethernet(-1, 20), '192.0.2.7');
    expect([send(20), send(101), send(102)]).toEqual([['192.0.2.7'], ['239.1.1.1'], ['10.1.0.2']]);
  });
});
