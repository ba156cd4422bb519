import { describe, expect, it } from 'vitest';
import { LEVELS, uniformLevels } from './log.ts';
import { OptionError, parseOptions } from './options.ts';

describe('parseOptions()', () => {
  it('has the defaults of the original', () => {
    expect(parseOptions([])).toEqual({
      ports: 256,
      queueSize: 256,
      assignMacs: true,
      levels: uniformLevels(LEVELS.warn),
      trustedDataspaces: [],
      ixl: 'task',
      nics: [],
      macAge: 0,
      storm: undefined,
      tunnels: [],
      mtu: undefined,
      help: false,
      warnings: [],
    });
  });

  it.each([
    [['-p', '5'], { ports: 5 }],
    [['-p5'], { ports: 5 }],
    [['--ports=5'], { ports: 5 }],
    [['--ports', '5'], { ports: 5 }],
    [['-s', '32768'], { queueSize: 32768 }],
    [['--size=1'], { queueSize: 1 }],
    [['-M'], { assignMacs: false }],
    [['-m'], { assignMacs: true }],
    [['-d', 'ram', '--register-ds=more'], { trustedDataspaces: ['ram', 'more'] }],
    [['--ixl=in-process'], { ixl: 'in-process' }],
    [['--mac-age=300'], { macAge: 300 }],
    [['--mtu', '9000'], { mtu: 9000 }],
    [
      ['--vxlan=vni=5,remote=192.0.2.1,vlan=trunk=1,2,name=far'],
      { tunnels: [{ name: 'far', trunk: [1, 2], vxlan: { vni: 5, port: 4789 } }] },
    ],
    [['--storm', '100'], { storm: { broadcast: 100, multicast: 100, unknown: 100 } }],
    [['--storm=100', '--storm', 'broadcast=5'], { storm: { broadcast: 5, multicast: 100, unknown: 100 } }],
    [['--nic=0'], { nics: [{ index: 0, spec: { name: '' } }] }],
    [
      ['--nic', '0,name=wan,vlan=trunk=1,2', '--nic=2,vlan=access=7,rate-in=10M,64k,storm=unknown=9'],
      {
        nics: [
          { index: 0, spec: { name: 'wan', trunk: [1, 2] } },
          {
            index: 2,
            spec: {
              access: 7,
              rateIn: { bitsPerSecond: 10e6, burst: 64_000 },
              storm: { unknown: 9 },
            },
          },
        ],
      },
    ],
    [['-v'], { levels: uniformLevels(LEVELS.info) }],
    [['-vv'], { levels: uniformLevels(LEVELS.debug) }],
    [['-v', '-v', '--verbose', '-v'], { levels: uniformLevels(LEVELS.trace) }],
    [['-q'], { levels: uniformLevels(LEVELS.quiet) }],
    [['-vvq', '-v'], { levels: uniformLevels(LEVELS.warn) }],
    [['-D', 'debug'], { levels: uniformLevels(LEVELS.debug) }],
    [['-D', 'packet=trace', '--debug=port=quiet'], { levels: { ...uniformLevels(1), packet: 15, port: 0 } }],
    [['-D', 'packet=trace', '-q'], { levels: uniformLevels(0) }],
  ])('%j', (args, expected) => {
    expect(parseOptions(args)).toMatchObject(expected);
  });

  it.each([
    [['-p', 'many'], /ports.*1\.\.4096: current value is 'many'/],
    [['-p', '0'], /current value is '0'/],
    [['-p', '5x'], /'5x'/],
    [['-s', '100'], /power of two/],
    [['-s', '65536'], /power of two/],
    [['-s'], /size/],
    [['--ixl=elsewhere'], /task or in-process/],
    [
      ['--mac-age=-1'],
      /age of MAC addresses .*0 \(never forgotten\) to 1000000 seconds: current value is '-1'/,
    ],
    [['--mac-age=soon'], /current value is 'soon'/],
    [['--mtu=67'], /MTU as it must be 68\.\.65535 bytes: current value is '67'/],
    [['--vxlan=vni=5'], /--vxlan vni=5: A VXLAN port needs another end/],
    [['--vxlan=remote=192.0.2.1'], /needs an id/],
    [
      ['--vxlan=type=none,name=x'],
      /Unknown option 'type=none': it must be one of name=S, vlan=.*group=ADDRESS/,
    ],
    [['--vxlan=vni=5,remote=192.0.2.1,ds-max=3'], /Unknown option 'ds-max=3'/],
    [['--vxlan=vni=5,group=239.1.1.1'], /--vxlan vni=5,group=239\.1\.1\.1: .*add dev=NAME/],
    [['--storm=much'], /storm control.*KIND=FRAMES per second.*current value is 'much'/],
    [['--storm=arp=1'], /broadcast, multicast, unknown/],
    [['--nic=wan'], /--nic wan as it must start with the number .*0\.\.255: current value is 'wan'/],
    [['--nic=256'], /0\.\.255/],
    [['--nic=0,1'], /--nic 0,1: Unknown option '1': it must be one of name=S, vlan=/],
    [['--nic=0', '--nic=0,name=x'], /0 is there twice/],
    [['--nic=0,mac=02:00:00:00:00:01'], /Unknown option 'mac=/],
    [['--nic=0,vlan=access=0'], /--nic 0,vlan=access=0: Invalid VLAN access port id '0'/],
    [['--nonsense'], /nonsense/],
    [['-x'], /-x/],
  ])('refuses %j', (args, message) => {
    expect(() => parseOptions(args)).toThrow(OptionError);
    expect(() => parseOptions(args)).toThrow(message);
  });

  it.each([
    [['-D', 'loud']],
    [['-D', 'nothing=warn']],
    [['-D', 'constructor']],
    [['-D', 'core=toString']],
    [['operand']],
  ])('says that it ignores %j', (args) => {
    expect(parseOptions(args).warnings).toHaveLength(1);
  });
});
