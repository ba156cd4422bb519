import { describe, expect, it } from 'vitest';
import type { PortSpec } from './factory_args.ts';
import { PortList } from './port_list.ts';
import { listLog } from './testing/mock_switch.ts';

const SPEC: PortSpec = { name: '', dsMax: 2, monitor: false };
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

function build(options: { maxPorts?: number; assignMacs?: boolean } = {}) {
  const { log, lines } = listLog();
  return { lines, list: new PortList({ maxPorts: 2, assignMacs: true, ...options, log }) };
}

describe('PortList.mirrored()', () => {
  it('gives each port the mirrors that know its name, and leaves those out that only look', () => {
    const { list } = build({ maxPorts: 8 });
    list.create({ ...SPEC, name: 'web' });
    list.create({ ...SPEC, name: 'eye', mirror: ['web', 'wan', 'other'] });
    list.create({ ...SPEC, name: 'other', mirror: ['web'] });
    list.createNic(8, { name: 'wan' });
    list.create({ ...SPEC, monitor: true });
    expect(list.mirrored().map(({ port, mirrors }) => [port.name, mirrors])).toEqual([
      ['web', [1, 2]],
      ['wan', [1]],
    ]);
  });
});

describe('PortList.create()', () => {
  it('makes names up with a counter that explicit names do not move', () => {
    const { list } = build({ maxPorts: 8 });
    const specs = [SPEC, { ...SPEC, name: 'lan' }, SPEC, { ...SPEC, monitor: true }];
    expect(specs.map((spec) => list.create(spec).name)).toEqual(['[0]', 'lan', '[1]', 'monitor[2]']);
  });

  it('gives random addresses that are unicast and locally administered, unless told not to', () => {
    const { mac } = build().list.create(SPEC);
    expect((mac?.[0] as number) & 3).toBe(2);
    expect(build({ assignMacs: false }).list.create(SPEC).mac).toBeUndefined();
  });

  it('refuses a port too many with ENOMEM; the monitor does not count', () => {
    const { list } = build();
    list.create({ ...SPEC, monitor: true });
    list.create(SPEC);
    const { number } = list.create(SPEC);
    expect(() => list.create(SPEC)).toThrow(expect.objectContaining({ errno: 12, code: 'VSWITCH_NO_PORT' }));
    list.remove(number);
    expect(list.create(SPEC).number).toBe(number);
  });

  it('refuses a second monitor with ENOMEM', () => {
    const { list } = build();
    list.create({ ...SPEC, monitor: true });
    expect(() => list.create({ ...SPEC, monitor: true })).toThrow('No port available');
  });

  it('counts the NIC', () => {
    const { list } = build({ maxPorts: 1 });
    list.createNic(8);
    expect(() => list.create(SPEC)).toThrow('No port available');
  });

  it('refuses access and trunk at once', () => {
    expect(() => build().list.create({ ...SPEC, access: 1, trunk: [2] })).toThrow(
      'VLAN port cannot be access and trunk simultaneously.',
    );
  });

  it('refuses a MAC address that another port or the NIC has, not one of the monitor', () => {
    const { list } = build({ maxPorts: 8 });
    list.create({ ...SPEC, monitor: true, mac: MAC });
    list.create({ ...SPEC, name: 'lan', mac: MAC });
    expect(() => list.create({ ...SPEC, name: 'b', mac: MAC })).toThrow(
      "Rejecting port 'b'. MAC address already in use. It is 02:00:00:00:00:01 of port 'lan'",
    );
    const nic = list.createNic(8);
    expect(() => list.identify(nic, 'ixl-e1000', MAC)).toThrow(
      expect.objectContaining({ code: 'VSWITCH_MAC_IN_USE' }),
    );
    const other = Uint8Array.of(2, 0, 0, 0, 0, 2);
    list.identify(nic, 'ixl-e1000', other);
    expect(() => list.create({ ...SPEC, mac: other })).toThrow("of port 'ixl-e1000'");
    // The driver comes back with its own address.
    expect(list.identify(nic, 'ixl-e1000', other).name).toBe('ixl-e1000');
  });

  it('warns of VLANs on the monitor, but of trunk=all without a word', () => {
    const { list, lines } = build();
    const { number, spec } = list.create({ ...SPEC, monitor: true, access: 1 });
    expect([lines.length, spec.access]).toEqual([1, undefined]);
    list.remove(number);
    list.create({ ...SPEC, monitor: true, trunk: 'all' });
    expect(lines).toEqual([expect.stringContaining('ignored on monitor ports!')]);
  });
});
