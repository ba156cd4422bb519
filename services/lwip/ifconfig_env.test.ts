import { describe, expect, it } from 'vitest';
import { configuredLines, dhcpTimeout, parseIp4Setting, strayVariables, vlanOf } from './ifconfig_env.ts';

const NAME = 'IFCONFIG_IP4_vn0';

describe('parseIp4Setting()', () => {
  it.each([
    ['dhcp', { kind: 'dhcp' }],
    [
      '10.0.2.15/24 via 10.0.2.2',
      { kind: 'static', ip: 0x0a00020f, netmask: 0xffffff00, gateway: 0x0a000202 },
    ],
    ['10.0.2.15/24', { kind: 'static', ip: 0x0a00020f, netmask: 0xffffff00, gateway: 0 }],
    ['10.0.2.15', { kind: 'static', ip: 0x0a00020f, netmask: 0xffffffff, gateway: 0 }],
    ['10.0.2.15/33', { kind: 'static', ip: 0x0a00020f, netmask: 0xffffffff, gateway: 0 }],
    ['10.0.2.15/0', { kind: 'static', ip: 0x0a00020f, netmask: 0, gateway: 0 }],
  ])('reads "%s"', (value, setting) => expect(parseIp4Setting(NAME, value)).toEqual(setting));

  it.each([
    '',
    'DHCP',
    '10.0.2',
    '10.0.2.300/24',
    '10.0.2.15/24  via 10.0.2.2',
    '10.0.2.15/24 via',
    '10.0.2.15 via 10.0.2.2',
  ])('refuses "%s" naming variable, value and forms', (value) => {
    expect(() => parseIp4Setting(NAME, value)).toThrow(
      `Cannot configure the network as ${NAME} must be "dhcp", "a.b.c.d/p via g.h.i.j", "a.b.c.d/p" or "a.b.c.d": current value is "${value}"`,
    );
  });
});

describe('dhcpTimeout()', () => {
  it('is 60 s unless set', () => {
    const of = (value?: string) =>
      dhcpTimeout(new Map(value === undefined ? [] : [['IFCONFIG_DHCP_TIMEOUT', value]]));
    expect([of(), of('0'), of('2.5')]).toEqual([60, 0, 2.5]);
    expect(() => of('soon')).toThrow(/IFCONFIG_DHCP_TIMEOUT must be a number of seconds .*"soon"/);
  });
});

describe('vlanOf()', () => {
  it('is a VLAN id, or nothing when unset', () => {
    const of = (value: string) => vlanOf(new Map([['IFCONFIG_VLAN_vn1', value]]), 'vn1');
    expect([of('1'), of('4094'), vlanOf(new Map(), 'vn1')]).toEqual([1, 4094, undefined]);
    for (const value of ['', '0', '4095', '5,6', '0x5'])
      expect(() => of(value)).toThrow(
        `Cannot configure the network as IFCONFIG_VLAN_vn1 must be a VLAN id 1..4094: current value is "${value}"`,
      );
  });
});

describe('strayVariables()', () => {
  it('warns of variables for interfaces that are not there', () => {
    const environment = new Map([
      [NAME, 'dhcp'],
      ['IFCONFIG_IP4_vn1', 'dhcp'],
      ['IFCONFIG_VLAN_vn0', '5'],
      ['IFCONFIG_VLAN_vn2', '5'],
      ['IFCONFIG_DHCP_TIMEOUT', '1'],
    ]);
    expect(strayVariables(environment, ['vn0'])).toEqual([
      'Warning: IFCONFIG_IP4_vn1 is ignored as interface "vn1" does not exist: there are vn0',
      'Warning: IFCONFIG_VLAN_vn2 is ignored as interface "vn2" does not exist: there are vn0',
    ]);
    expect(strayVariables(environment, [])[0]).toMatch(/no capability name starts with virtnet/);
  });
});

describe('configuredLines()', () => {
  it('prints what L4Re prints', () => {
    expect(
      configuredLines('vn0', 'via DHCP', { ip: 0x0a00020f, netmask: 0xffffff00, gateway: 0x0a000202 }),
    ).toEqual([
      "Interface 'vn0' configured via DHCP:",
      '  IP address: 10.0.2.15',
      '  Netmask: 255.255.255.0',
      '  Gateway: 10.0.2.2',
    ]);
  });
});
