import { describe, expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { loadLwip } from './ffi.ts';
import { check } from './self_test.ts';
import { Stack } from './stack.ts';

describe('loadLwip()', () => {
  it('names the command when the library is missing', () => {
    expect(() => loadLwip('liblwip.so.99')).toThrow(
      'Cannot load the TCP/IP stack as liblwip.so.99 must be installed (Debian package liblwip0): sudo apt-get install -y liblwip0',
    );
  });

  it('names what another library does not export', () => {
    expect(() => loadLwip('libm.so.6')).toThrow(/Cannot use libm\.so\.6 as it must export lwip_init/);
  });
});

describe('check()', () => {
  it('throws a sentence when the layout differs', () => {
    expect(() => check('the size of struct pbuf', 32, 24)).toThrow(
      /^Cannot use liblwip\.so\.0 as the size of struct pbuf must be 24: current value is 32\. .*apt-get install/,
    );
  });
});

describe('Stack.open()', () => {
  it('passes its self-test with the library of this machine and is one per process', () => {
    const arena = new Arena(2 ** 24);
    const stack = Stack.open(arena);
    expect(Stack.open(arena)).toBe(stack);
    expect(() => Stack.open(new Arena(2 ** 24))).toThrow(/lwIP has one state per process/);
  });
});
