import { afterEach, describe, expect, it, vi } from 'vitest';
import { main } from './main.ts';
import { OptionError, parseOptions } from './options.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('parseOptions()', () => {
  it('has defaults and reads every option', () => {
    expect(parseOptions([])).toEqual({ root: 'rom', port: 80, connections: 256, quiet: false, help: false });
    expect(parseOptions(['-p', '8080', '-c5', '--quiet', '/rom/site/'])).toEqual({
      root: 'rom/site',
      port: 8080,
      connections: 5,
      quiet: true,
      help: false,
    });
  });

  it.each([
    [['-p', '0'], "Cannot listen as the port must be 1..65535: current value is '0'"],
    [['-p', '65536'], 'the port must be 1..65535'],
    [['-c', 'many'], "their number must be 1..10000: current value is 'many'"],
    [['a', 'b'], "Cannot serve 'a' and 'b' as there must be one directory"],
    [['--wrong'], "Unknown option '--wrong'"],
  ])('refuses %j', (args, message) => {
    expect(() => parseOptions(args)).toThrow(OptionError);
    expect(() => parseOptions(args)).toThrow(message);
  });
});

describe('main()', () => {
  it('ends with 1 and a sentence for a bad option', async () => {
    const lines: string[] = [];
    vi.spyOn(console, 'error').mockImplementation((line: string) => void lines.push(line));
    const env = { argv: ['rom/httpd', '-p', 'x'] } as unknown as Parameters<typeof main>[0];
    expect(await main(env)).toBe(1);
    expect(lines).toEqual(["httpd: Cannot listen as the port must be 1..65535: current value is 'x'"]);
  });
});
