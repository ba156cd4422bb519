import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { isSystemError, systemProblem, UsageError } from './problem.ts';

function failure(work: () => unknown): NodeJS.ErrnoException {
  try {
    work();
  } catch (err) {
    if (isSystemError(err)) return err;
  }
  throw new Error('did not fail');
}

it('systemProblem() says what failed where, why, and what helps', () => {
  expect(systemProblem(failure(() => readFileSync('/nosuch')))).toBe(
    'open /nosuch failed: no such file or directory (ENOENT)',
  );
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), {
    code: 'ENOSPC',
    syscall: 'write',
  });
  expect(systemProblem(full)).toMatch(/^write failed: no space left on device \(ENOSPC\); end labs/);
});

it('isSystemError() knows them from others', () => {
  expect([isSystemError(new UsageError('x')), isSystemError('x')]).toEqual([false, false]);
});
