import { describe, expect, it } from 'vitest';
import { OptionError, parseOptions } from './options.ts';

describe('parseOptions()', () => {
  it('has the defaults of the original', () => {
    expect(parseOptions([])).toEqual({
      queueSize: 256,
      pollUs: undefined,
      trustedDataspaces: [],
      help: false,
      warnings: [],
    });
  });

  it('reads every option in each form', () => {
    const all = { queueSize: 64, pollUs: 1500, trustedDataspaces: ['a', 'b'] };
    expect(parseOptions(['-s', '64', '-p', '1500', '-d', 'a', '-d', 'b'])).toMatchObject(all);
    expect(parseOptions(['-s64', '--poll=1500', '--register-ds', 'a', '--register-ds=b'])).toMatchObject(all);
  });

  it.each([
    [
      ['-s', '100'],
      'Max number of virtqueue buffers must be power of 2 between 1 and 32768. Invalid value: 100',
    ],
    [['-s', '65536'], 'Max number of virtqueue buffers must be power of 2'],
    [['--size=0'], 'Max number of virtqueue buffers must be power of 2'],
    [['-p', '0'], "Bad poll interval '0' usec. Must be greater than 0."],
    [['-p', 'soon'], "Bad poll interval 'soon' usec."],
    [['-d'], "Option '-d' needs a value"],
  ])('refuses %j', (args, message) => {
    expect(() => parseOptions(args)).toThrow(OptionError);
    expect(() => parseOptions(args)).toThrow(message);
  });

  it('warns of what it ignores', () => {
    const { warnings } = parseOptions(['-v', 'word', '--ports=4']);
    expect(warnings).toEqual([
      "Ignoring unknown option '-v'; -h shows which there are",
      "Ignoring argument 'word' as there are options only",
      "Ignoring unknown option '--ports'; -h shows which there are",
    ]);
  });
});
