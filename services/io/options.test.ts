import { describe, expect, it } from 'vitest';
import { parseCNumber, parseOptions } from './options.ts';

const parse = (line: string): ReturnType<typeof parseOptions> => parseOptions(line.split(' '));

describe('parseOptions()', () => {
  it('starts at verbosity 1 and mixes options and files', () => {
    expect(parse('rom/io rom/ixl.vbus -v')).toEqual({
      verbosity: 2,
      transparentMsi: false,
      traceMask: undefined,
      acpiDebugLevel: undefined,
      files: ['rom/ixl.vbus'],
      errors: [],
    });
    expect(parse('rom/io -vvvv  rom/a.vbus --verbose rom/b.io')).toMatchObject({
      verbosity: 6,
      files: ['rom/a.vbus', 'rom/b.io'],
    });
  });

  it('takes numbers in every base of C, separate or joined', () => {
    expect(parse('io --trace 0x10 --acpi-debug-level=010')).toMatchObject({
      traceMask: 16,
      acpiDebugLevel: 8,
    });
    expect(['7', '0', '0x', 'x', '12abc'].map(parseCNumber)).toEqual([7, 0, 0, 0, 12]);
  });

  it('takes unambiguous prefixes of long options, and everything behind -- as files', () => {
    expect(parse('io --trans --verb -- -v')).toMatchObject({
      transparentMsi: true,
      verbosity: 2,
      files: ['-v'],
    });
  });

  it('complains about what it does not know, and goes on', () => {
    expect(parse('io -vx --nope --tra --verbose=2 f --trace').errors).toEqual([
      "io: invalid option -- 'x'",
      "io: unrecognized option '--nope'",
      "io: ambiguous option '--tra'",
      "io: option '--verbose' doesn't allow an argument",
      "io: option '--trace' requires an argument",
    ]);
  });
});
