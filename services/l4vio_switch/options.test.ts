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
    [['--nonsense'], /nonsense/],
    [['-x'], /-x/],
  ])('refuses %j', (args, message) => {
    expect(() => parseOptions(args)).toThrow(OptionError);
    expect(() => parseOptions(args)).toThrow(message);
  });

  it.each([[['-D', 'loud']], [['-D', 'nothing=warn']], [['operand']]])('says that it ignores %j', (args) => {
    expect(parseOptions(args).warnings).toHaveLength(1);
  });
});
