import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { globMatches } from './glob.ts';

/** A text whose characters can be looked at so often. */
function counting(text: string, looks: number): string {
  let left = looks;
  const get = (target: object, key: string | symbol) => {
    left -= 1;
    if (left < 0) throw new Error('too many looks');
    const value = Reflect.get(target, key);
    return typeof value === 'function' ? value.bind(text) : value;
  };
  return new Proxy(Object(text), { get });
}

describe('globMatches()', () => {
  const cases: [pattern: string, text: string, matches: boolean][] = [
    ['PNP0[3F]??', 'PNP0303', true],
    ['PNP0[3F]??', 'PNP0F13', true],
    ['PNP0[3F]??', 'PNP0B00', false],
    ['PNP0[3F]??', 'PNP03', false],
    ['*', '', true],
    ['*', '.a/b', true],
    ['?', '', false],
    ['?', '/', true],
    ['a*b*c', 'aXbYbZc', true],
    ['a*b*c', 'aXbYbZ', false],
    ['[!0-9]x', 'ax', true],
    ['[^0-9]x', '5x', false],
    ['[]a]', ']', true],
    ['[a-]', '-', true],
    ['[[:digit:][:upper:]]', 'Q', true],
    ['[[:digit:]]', 'q', false],
    ['[a', '[a', true],
    ['\\*', '*', true],
    ['\\*', 'x', false],
    ['[\\]]', ']', true],
    ['', '', true],
    ['', 'x', false],
    ['L40009', 'L40009', true],
    ['l40009', 'L40009', false],
    ['[z-a]', 'm', false],
    ['[[:digit:]', '[:', true],
    ['[[:digit:]', '[5', false],
    ['[a[[:digit:]', '[a[d', true],
    ['[\\][x\\]', '[][x]', true],
  ];
  it.each(cases)('%j on %j is %s', (pattern, text, matches) => {
    expect(globMatches(pattern, text)).toBe(matches);
  });

  const alphabet = fc.string({
    unit: fc.constantFrom('a', 'b', '-', ']', '[', '*', '?', '!', '\\'),
    maxLength: 12,
  });

  it('matches any text with every character escaped', () => {
    fc.assert(
      fc.property(alphabet, (text) => {
        expect(globMatches(text.replace(/./g, '\\$&'), text)).toBe(true);
      }),
    );
  });

  it('agrees with a regular expression on * and ?', () => {
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?'), maxLength: 8 });
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 8 });
    fc.assert(
      fc.property(pattern, text, (p, t) => {
        const regex = new RegExp(`^${p.replaceAll('?', '[^]').replaceAll('*', '[^]*')}$`);
        expect(globMatches(p, t)).toBe(regex.test(t));
      }),
    );
  });

  it('looks at no character more often than the pattern is long, where backtracking matchers explode', () => {
    const cases = [
      ['a*'.repeat(30), `${'a'.repeat(200)}b`, true],
      [`${'a*'.repeat(30)}c`, 'a'.repeat(2000), false],
    ] as const;
    for (const [pattern, text, matches] of cases) {
      expect(globMatches(pattern, counting(text, 2 * pattern.length * text.length))).toBe(matches);
    }
  });

  it.each(['[', '[\\]', '[[:digit:]', '[a-[', '[!]'])('reads %j, again and again, once', (part) => {
    const pattern = part.repeat(2000);
    globMatches(counting(pattern, 20 * pattern.length), 'x');
  });

  it('takes any pattern', () => {
    fc.assert(fc.property(alphabet, alphabet, (pattern, text) => void globMatches(pattern, text)));
  });
});
