// Running other programs for engine.mjs. Plain JavaScript without dependencies: it runs before `npm ci`.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** A problem of this machine that its user can mend: printed as one sentence, without a stack. */
export class EngineError extends Error {
  name = 'EngineError';
}

/** dockerd, iptables and apt's helpers live in directories that a plain user's PATH lacks. */
export const PATH = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']
  .filter((dir, at, all) => all.indexOf(dir) === at)
  .join(delimiter);

export function say(text) {
  process.stderr.write(`engine: ${text}\n`);
}

/** True if the program can be found. */
export function has(program) {
  return PATH.split(delimiter).some((dir) => existsSync(join(dir, program)));
}

/**
 * Runs a program to its end. `status` is undefined when it could not be started or took longer than
 * `timeoutMs`; `output` is stdout and `errors` stderr, without the last line's end.
 */
export function attempt(command, args, { env = {}, cwd, timeoutMs } = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, PATH, ...env },
    maxBuffer: 64 * 2 ** 20,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
  });
  const errors = error?.code === 'ETIMEDOUT' ? `no answer within ${timeoutMs / 1000} s` : error?.message;
  return {
    status: error ? undefined : (status ?? undefined),
    output: (stdout ?? '').trimEnd(),
    errors: (errors ?? stderr ?? '').trimEnd(),
  };
}

/** The same for what must succeed: its stdout. Throws EngineError `Cannot <what> as ...` with the last lines. */
export function must(what, command, args, options = {}) {
  const { status, output, errors } = attempt(command, args, options);
  if (status === 0) return output;
  const end = status === undefined ? 'could not be run to its end' : `ended with status ${status}`;
  throw new EngineError(`Cannot ${what} as ${command} ${end}:\n${lastLines(errors || output)}`);
}

/** The last lines of a program's output: where it says why. */
export function lastLines(text, count = 8) {
  return text
    .trimEnd()
    .split('\n')
    .slice(-count)
    .map((line) => `    ${line}`)
    .join('\n');
}
