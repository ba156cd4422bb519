import { describe, expect, it } from 'vitest';
import { parseOptions } from './options.ts';

const parse = (...words: string[]) => parseOptions('ned', words);

describe('parseOptions()', () => {
  it('takes the first word that is no option as script, the rest as its arguments', () => {
    expect(parse('rom/x.cfg', '-e', '--exit')).toEqual({
      after: 'serve',
      statements: [],
      script: 'rom/x.cfg',
      args: ['-e', '--exit'],
      messages: [],
    });
  });

  it('knows --exit and --wait-and-exit as the very first word only', () => {
    expect(parse('--exit', 'x').after).toBe('exit');
    expect(parse('--wait-and-exit', 'x').after).toBe('wait-and-exit');
    const late = parse('-e', 'a', '--exit', 'x');
    expect(late).toMatchObject({
      after: 'serve',
      script: 'x',
      messages: ["ned: unrecognized option '--exit'"],
    });
  });

  it.each([
    [['-e', 'a', 'x']],
    [['-ea', 'x']],
    [['--execute', 'a', 'x']],
    [['--execute=a', 'x']],
    [['--exec', 'a', 'x']],
    [['-e', 'a', '--', 'x']],
  ])('%j has one statement', (words) => {
    expect(parse(...words)).toMatchObject({ statements: ['a'], script: 'x', messages: [] });
  });

  it('keeps the order of statements', () => {
    expect(parse('-e', 'a', '--execute', 'b').statements).toEqual(['a', 'b']);
  });

  it('reports what it does not know and goes on', () => {
    expect(parse('--lua', '-v', 'x')).toMatchObject({
      script: 'x',
      messages: ["ned: unrecognized option '--lua'", "ned: invalid option -- 'v'"],
    });
    expect(parse('-e').messages).toEqual(["ned: option requires an argument -- 'e'"]);
    expect(parse('--execute').messages).toEqual(["ned: option '--execute' requires an argument"]);
  });

  it('reads standard input without a script or with "-"', () => {
    expect(parse().script).toBeUndefined();
    expect(parse('-').script).toBeUndefined();
  });
});
