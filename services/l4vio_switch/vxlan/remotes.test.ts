/** The ends of a port with a group, and who tries to become one. */
import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { formatIp, type Network, parseIp, parseNetwork } from '#common/udp/address';
import { SOCKADDR_SLOT, sockaddrIp, sockaddrPort, writeSockaddr } from '#common/udp/sockaddr';
import { GROUP, IDLE_SECONDS, REMOTES_BYTES, Remotes, STRANGER } from './remotes.ts';
import { finishVxlan, MAX_REMOTES, newDraft, setVxlan } from './spec.ts';

const SENDER = REMOTES_BYTES;
const memory = new Memory(new ArrayBuffer(REMOTES_BYTES + SOCKADDR_SLOT));
let replaced: number[] = [];

function ends(words: string[], allowed: string[] = [], own: string[] = []): Remotes {
  const draft = newDraft();
  for (const word of ['vni=1', ...words]) {
    const [key = '', value = ''] = word.split('=', 2);
    setVxlan(draft, key, value);
  }
  const networks = (texts: string[]) => texts.map((text) => parseNetwork(text) as Network);
  replaced = [];
  return new Remotes({
    memory,
    at: 0,
    spec: finishVxlan(draft),
    scope: 3,
    senders: draft.group && { networks: networks(allowed), own: networks(own) },
    onReplaced: (slot) => replaced.push(slot),
  });
}

function heard(remotes: Remotes, from: string, now = 0): number {
  writeSockaddr(memory, SENDER, parseIp(from) as Uint8Array, 54_321);
  return remotes.slotOf(SENDER, now);
}

const placeOf = (remotes: Remotes, slot: number) =>
  `${formatIp(sockaddrIp(memory, remotes.offset(slot)))} ${sockaddrPort(memory, remotes.offset(slot))}`;

describe('Remotes', () => {
  it.each([
    ['192.0.2.1', '192.0.2.2', '192.0.2.3'],
    ['2001:db8::1', '2001:db8::2', '2001:db8::3'],
  ])('knows named ends by their addresses, and nobody else: %s', (a, b, stranger) => {
    const remotes = ends([
      `remote=${a.includes(':') ? `[${a}]` : a}:99`,
      `remote=${b.includes(':') ? `[${b}]` : b}`,
    ]);
    expect([heard(remotes, a), heard(remotes, b), heard(remotes, stranger)]).toEqual([0, 1, STRANGER]);
    expect([remotes.flood, remotes.size, placeOf(remotes, 0)]).toEqual([2, 2, `${a} 99`]);
  });

  it('learns ends of a group from the networks that may send, and answers where they listen', () => {
    const remotes = ends(
      ['group=239.1.1.1', 'dev=x', 'port=4790'],
      ['192.0.2.0/25', '10.0.0.0/8'],
      ['192.0.2.9'],
    );
    expect(heard(remotes, '192.0.2.5')).toBe(1);
    expect(heard(remotes, '10.255.0.1')).toBe(2);
    expect(heard(remotes, '192.0.2.5')).toBe(1);
    expect([heard(remotes, '192.0.2.128'), heard(remotes, '11.0.0.1')]).toEqual([STRANGER, STRANGER]);
    // Our own, that somebody sends back.
    expect(heard(remotes, '192.0.2.9')).toBe(STRANGER);
    expect([remotes.flood, remotes.size]).toEqual([1, 2]);
    expect([0, 1].map((slot) => placeOf(remotes, slot))).toEqual(['239.1.1.1 4790', '192.0.2.5 4790']);
  });

  it('learns ends of an IPv6 group on its link', () => {
    const remotes = ends(['group=ff02::4242', 'dev=x'], ['fe80::/64'], ['fe80::1']);
    expect([heard(remotes, 'fe80::2'), heard(remotes, '2001:db8::1')]).toEqual([1, STRANGER]);
    // The group needs its interface.
    expect(memory.view.getUint32(remotes.offset(0) + 24, true)).toBe(3);
  });

  it('a flood of forged senders takes no place of who was heard of lately, and makes none for itself twice', () => {
    const remotes = ends(['group=239.1.1.1', 'dev=x'], ['10.0.0.0/8']);
    const forge = (n: number, now: number) =>
      heard(remotes, `10.${n >>> 16}.${(n >>> 8) & 255}.${n & 255}`, now);
    expect(forge(1, 0)).toBe(1);
    for (let n = 2; n < 5000; n++) forge(n, 0);
    expect(remotes.size).toBe(MAX_REMOTES);
    // The honest end is heard of all the time.
    for (let now = 1; now < 2 * IDLE_SECONDS; now++) {
      expect(forge(1, now)).toBe(1);
      for (let n = 5000; n < 5100; n++) forge(n + now * 100, now);
    }
    expect(remotes.size).toBe(MAX_REMOTES);
    expect(replaced).not.toContain(1);
    expect(forge(99_999, 2 * IDLE_SECONDS - 1)).toBe(GROUP);
  });

  it('who was silent for long makes room, and is then found no more', () => {
    const remotes = ends(['group=239.1.1.1', 'dev=x'], ['10.0.0.0/8']);
    for (let n = 1; n <= MAX_REMOTES; n++) expect(heard(remotes, `10.0.${n >>> 8}.${n & 255}`, n)).toBe(n);
    expect(heard(remotes, '10.9.9.9', IDLE_SECONDS)).toBe(GROUP);
    expect(heard(remotes, '10.9.9.9', IDLE_SECONDS + 1)).toBe(1);
    expect(heard(remotes, '10.0.0.1', IDLE_SECONDS + 2)).toBe(2);
    expect([replaced, placeOf(remotes, 1)]).toEqual([[1, 2], '10.9.9.9 4789']);
    // All the others are where they were, whatever moved in the table.
    for (let n = 3; n <= MAX_REMOTES; n++)
      expect(heard(remotes, `10.0.${n >>> 8}.${n & 255}`, IDLE_SECONDS)).toBe(n);
  });
});
