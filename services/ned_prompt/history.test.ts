import { describe, expect, it } from 'vitest';
import { addLine } from './history.ts';

describe('addLine()', () => {
  it('keeps the newest line first', () => {
    expect(addLine(addLine([], 'a'), 'b')).toEqual(['b', 'a']);
  });

  it('keeps no empty lines, no lines that begin with a blank, no immediate repetitions', () => {
    expect(addLine(['a'], '')).toEqual(['a']);
    expect(addLine(['a'], ' b')).toEqual(['a']);
    expect(addLine(['a'], 'a')).toEqual(['a']);
    expect(addLine(['b', 'a'], 'a')).toEqual(['a', 'b', 'a']);
  });
});
