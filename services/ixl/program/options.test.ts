import { describe, expect, it } from 'vitest';
import { parseOptions } from './options.ts';

describe('parseOptions()', () => {
  it.each([
    [[], 0],
    [['--index', '2'], 2],
    [['--index=3'], 3],
    [['-i', '4'], 4],
  ])('%j gives NIC %d', (args, index) => {
    expect(parseOptions(args)).toEqual({ index, help: false });
  });

  it.each([
    [['--index'], /must be a number 0\.\.9999: current value is ""/],
    [['--index', 'x'], /current value is "x"/],
    [['--index=-1'], /current value is "-1"/],
    [['--speed'], /no option "--speed"/],
  ])('refuses %j', (args, message) => {
    expect(() => parseOptions(args)).toThrow(message);
  });
});
