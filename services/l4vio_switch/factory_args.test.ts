import { describe, expect, it } from 'vitest';
import { L4Error } from '#common/ipc/errors';
import { parsePortArguments } from './factory_args.ts';

const parse = (...texts: string[]) => parsePortArguments(texts.map((text) => ({ text })));

describe('parsePortArguments()', () => {
  it('has the defaults of the original', () => {
    expect(parse()).toEqual({ name: '', dsMax: 2, monitor: false });
  });

  it.each([
    ['ds-max=80', { dsMax: 80 }],
    ['name=abcdefghijklmnopqrstuvwxyz', { name: 'abcdefghijklmnopqrs' }],
    ['name=', { name: '' }],
    ['type=monitor', { monitor: true }],
    ['type=none', { monitor: false }],
    ['vlan=access=4094', { access: 4094 }],
    ['vlan=trunk=1,2,4094', { trunk: [1, 2, 4094] }],
    ['vlan=trunk=1,2,', { trunk: [1, 2] }],
    ['vlan=trunk=all', { trunk: 'all' }],
    ['mac=0a:0B:00:ff:12:34', { mac: Uint8Array.of(10, 11, 0, 255, 0x12, 0x34) }],
  ])('%s', (text, expected) => {
    expect(parse(text)).toMatchObject(expected);
  });

  it('takes the last of repeated keys, and adds trunk lists up', () => {
    expect(parse('ds-max=3', 'ds-max=4', 'name=a', 'name=b')).toMatchObject({ dsMax: 4, name: 'b' });
    expect(parse('vlan=trunk=1', 'vlan=trunk=5,6')).toMatchObject({ trunk: [1, 5, 6] });
    expect(parse('vlan=trunk=1', 'vlan=trunk=all', 'vlan=trunk=2')).toMatchObject({ trunk: 'all' });
  });

  it.each([
    ['ds-max=x', "Bad parameter 'ds-max='. Invalid number specified."],
    ['ds-max=', "Bad parameter 'ds-max='. Invalid number specified."],
    ['ds-max=2.5', "Bad parameter 'ds-max='. Invalid number specified."],
    ['ds-max=0', 'must be 1..80: current value is 0'],
    ['ds-max=81', 'must be 1..80: current value is 81'],
    ['ds-max=-1', 'must be 1..80: current value is -1'],
    ['type=tap', "Unknown type 'tap'"],
    ['type=', "Unknown type ''"],
    ['vlan=access=0', "Invalid VLAN access port id '0'"],
    ['vlan=access=4095', "Invalid VLAN access port id '4095'"],
    ['vlan=access=7x', "Invalid VLAN access port id '7x'"],
    ['vlan=trunk=', "Invalid VLAN trunk port spec ''"],
    ['vlan=trunk=1, 2', "Invalid VLAN trunk port spec '1, 2'"],
    ['vlan=trunk=1,,2', "Invalid VLAN trunk port spec '1,,2'"],
    ['vlan=trunk=1,4095', "Invalid VLAN trunk port spec '1,4095'"],
    ['vlan=7', 'Invalid VLAN specification..'],
    ['mac=0a-0b-00-ff-12-34', "Invalid mac address '0a-0b-00-ff-12-34'"],
    ['mac=0a:0b:00:ff:12', "Invalid mac address '0a:0b:00:ff:12'"],
    ['mac=0a:0b:00:ff:12:3g', "Invalid mac address '0a:0b:00:ff:12:3g'"],
    ['mac=', "Unknown option 'mac='"],
    ['colour=red', "Unknown option 'colour=red'"],
    ['mac', "Unknown option 'mac'"],
    ['', "Unknown option ''"],
  ])('refuses %s', (text, message) => {
    expect(() => parse(text)).toThrow(message);
    expect(() => parse(text)).toThrow(expect.objectContaining({ errno: 22 }));
    expect(() => parse(text)).toThrow(L4Error);
  });

  it('passes over the nil that ends the argument list of a script', () => {
    expect(parsePortArguments([{ text: 'name=a' }, { nil: true }])).toMatchObject({ name: 'a' });
  });

  it('counts arguments from 2 when one is no string', () => {
    expect(() => parsePortArguments([{ text: 'name=a' }, {}])).toThrow('Unexpected type for argument 3');
  });
});
