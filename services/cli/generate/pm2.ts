/** `l4lab pm2 SCRIPT`: an ecosystem file for pm2 with one app for each component of the script. */
import { writeFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import type { BrokerOptions } from '../broker.ts';
import { isSystemError, systemReason, UsageError } from '../problem.ts';
import { labOptions } from '../run.ts';
import { commandLine, labComponents, labWords, optionWords, requireHostName } from './components.ts';
import { ecosystemFile } from './pm2_file.ts';
import { ROOT } from './root.ts';

export type Pm2Options = Omit<BrokerOptions, 'runDir' | 'json'> & {
  readonly web?: string;
  readonly output?: string;
};

/** Where the guests see the web server; as in `npm start`. */
const WEB_GUEST = '10.0.2.100';

/** Writes the file, or prints it; returns the exit status. Throws UsageError, and what the file system says. */
export async function pm2(script: string, args: readonly string[], options: Pm2Options): Promise<number> {
  const { web, output } = options;
  if (web !== undefined) requireHostName('--web', web);
  const names = ['ned', ...(web === undefined ? [] : ['web'])];
  const { components } = await labComponents(labOptions(script, args, options), (name) => {
    if (names.includes(name)) return 'there is a service of that name already';
    return /^(all|\d+)$/.test(name) ? 'pm2 takes that for all apps, or for the number of one' : undefined;
  });
  const rom = (options.rom ?? []).map(fromRoot);
  const host = [...(options.host ?? []), ...(web === undefined ? [] : [`${web}=${WEB_GUEST}`])];
  const named = [...optionWords('--web', web === undefined ? [] : [web])];
  if (output !== undefined) named.push('-o', output);
  const text = ecosystemFile({
    command: commandLine([
      ...['l4lab', 'pm2', ...optionWords('--rom', options.rom), ...labWords(options), ...named],
      ...[script, ...args],
    ]),
    root: rootFrom(dirname(resolve(output ?? 'x'))),
    broker: ['broker', ...optionWords('--rom', rom), ...labWords({ ...options, host })],
    script: [fromRoot(script), ...args],
    components,
    ...(web === undefined ? {} : { webGuest: `${WEB_GUEST}:80` }),
  });
  if (output === undefined) process.stdout.write(text);
  else write(output, text);
  return 0;
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (err) {
    if (!isSystemError(err)) throw err;
    throw new UsageError(`Cannot write ${path} (-o) as ${systemReason(err)}`);
  }
}

/** How the file finds l4lab: relative to itself when it lies in the checkout, else wherever it lies. */
function rootFrom(dir: string): { readonly relative: string } | { readonly absolute: string } {
  const up = relative(dir, ROOT);
  return /^(\.\.(\/\.\.)*)?$/.test(up) ? { relative: up || '.' } : { absolute: ROOT };
}

/** A path for a process whose working directory is the checkout. */
function fromRoot(path: string): string {
  const inside = relative(ROOT, resolve(path));
  return inside.startsWith('..') ? resolve(path) : inside;
}
