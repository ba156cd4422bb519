import { describe, expect, it } from 'vitest';
import { formatMac } from '#common/wire/ethernet';
import { parseOptions, wireName } from './options.ts';

const nics = (...words: string[]): string[] =>
  parseOptions(words).nics.map(({ model, mac, wire }) => `${model} ${formatMac(mac)} ${wireName(wire)}`);

describe('parseOptions()', () => {
  it('does give the reference NIC when nothing is said', () => {
    expect(nics()).toEqual(['e1000 52:54:00:12:34:56 user']);
  });

  it('does take several NICs in any key order and give each its own MAC when none is said', () => {
    expect(nics('--nic', 'e1000', '--nic=e1000,wire=tap:tap0,record=x.pcapng,mac=02-00-00-00-00-0A')).toEqual(
      ['e1000 52:54:00:12:34:56 user', 'e1000 02:00:00:00:00:0a tap:tap0'],
    );
    expect(nics('--nic', 'e1000', '--nic', 'e1000')[1]).toContain('34:57');
    expect(nics('--nic', 'none')).toEqual([]);
  });

  it('does collect what is for the user wire', () => {
    const { wires } = parseOptions(['--host', 'a=10.0.2.9', '--guest-forward=10.0.2.9:80=localhost:8080']);
    expect(wires.hosts.get('a')).toEqual(['10.0.2.9']);
    expect(wires.forwards).toMatchObject([{ guestPort: 80, hostPort: 8080 }]);
  });

  it.each([
    [['--nic', 'ne2000'], /model must be one of e1000 .*"ne2000"/],
    [['--nic', 'e1000,mac=12:34'], /six bytes in hex.*"12:34"/],
    [['--nic', 'e1000,mac=01:00:00:00:00:00'], /unicast/],
    [['--nic', 'e1000,mac=00:00:00:00:00:00'], /unicast/],
    [['--nic', 'e1000,mac=52:54:00:12:34:57', '--nic', 'e1000'], /own MAC: 52:54:00:12:34:57/],
    [['--nic', 'e1000,speed=10'], /current value is "speed"/],
    [['--nic', 'none', '--nic', 'e1000'], /only --nic/],
    [['--nic'], /needs a value: write e.g. --nic e1000/],
    [['--nic', 'none', '--host-forward', '80=10.0.2.15:80'], /needs a NIC with wire=user/],
    [['--host-forward'], /write e.g. --host-forward 8080=10.0.2.15:80/],
    [['--fast'], /takes --nic, --host, --guest-forward and --host-forward/],
    [Array.from({ length: 9 }, () => '--nic=e1000'), /8 slots: current value is 9/],
  ])('does say what is wrong with %j', (words, message) => {
    expect(() => parseOptions(words)).toThrow(message);
  });
});
