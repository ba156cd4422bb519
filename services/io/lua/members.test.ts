import { describe, expect, it } from 'vitest';
import { effectOf, type Member } from './members.ts';

const member = (path: Member['path'], kind: string, value: Member['value']): Member => ({
  path,
  kind,
  value,
});

describe('effectOf()', () => {
  it('takes compatibility ids, one or a list', () => {
    expect(effectOf(member(['compatible'], 'string', 'a'))).toEqual({ kind: 'compatible', id: 'a' });
    expect(effectOf(member(['compatible', 2], 'string', 'b'))).toEqual({ kind: 'compatible', id: 'b' });
  });

  it('tells scalar properties (-1) from lists (1, 2, ...)', () => {
    expect(effectOf(member(['Property', 'n'], 'number', 5))).toMatchObject({
      name: 'n',
      index: -1,
      value: 5,
    });
    expect(effectOf(member(['Property', 'n', 2], 'number', 5))).toMatchObject({ name: 'n', index: 2 });
    expect(effectOf(member(['Property', 'n'], 'function', 'x'))).toMatchObject({ value: 'a function' });
  });

  it('takes resources and devices in their sections and anywhere else, with the name that leads to them', () => {
    expect(effectOf(member(['Resource', 'irq0'], 'resource', 'r1'))).toEqual({
      kind: 'resource',
      name: 'irq0',
      token: 'r1',
    });
    expect(effectOf(member(['Child', 'nic', 3], 'device', 'd1'))).toMatchObject({
      kind: 'child',
      name: 'nic[3]',
    });
    expect(effectOf(member(['a', 'b', 1], 'device', 'd1'))).toMatchObject({ kind: 'child', name: 'a[b][1]' });
    expect(effectOf(member(['regs'], 'resource', 'r1'))).toMatchObject({ kind: 'resource', name: 'regs' });
  });

  it('leaves out what does not belong into a section, and refuses what is nothing at all', () => {
    expect(effectOf(member(['Child', 'x'], 'resource', 'r1'))).toMatchObject({
      kind: 'ignored',
      warning: expect.stringContaining('Child.x is left out as it is a resource'),
    });
    expect(() => effectOf(member(['x', 1], 'boolean', true))).toThrow(
      'cannot handle device member: x[1]: true',
    );
    expect(() => effectOf(member(['Resource'], 'number', 1))).toThrow(
      "'Resource' must stay a table of resources",
    );
  });
});
