import { describe, expect, it } from 'vitest';
import { restartChoices } from './restart.ts';

describe('restartChoices()', () => {
  it('takes a task alone, a policy, and the last word', () => {
    expect(restartChoices()).toEqual({});
    expect(restartChoices(['io', 'curl=no', 'curl=always', 'a=b=on-failure'])).toEqual({
      io: 'on-failure',
      curl: 'always',
      'a=b': 'on-failure',
    });
  });

  it.each([
    ['io=sometimes', "a policy is one of no, on-failure, always: current value is 'sometimes'"],
    ['io=', "a policy is one of no, on-failure, always: current value is ''"],
    ['=always', 'it needs the name of a task, e.g. --restart l4vio_switch'],
    ['', 'it needs the name of a task'],
  ])('refuses --restart %s', (value, message) => {
    expect(() => restartChoices([value])).toThrow(`Cannot use --restart ${value} as ${message}`);
  });
});
