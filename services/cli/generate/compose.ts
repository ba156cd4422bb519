/** `l4lab compose SCRIPT`: a compose file with one container for each component of the script. */
import { basename, dirname, relative, resolve } from 'node:path';
import type { BrokerOptions } from '../broker.ts';
import { labOptions } from '../run.ts';
import { commandLine, labComponents, labWords, optionWords } from './components.ts';
import { composeFile } from './compose_file.ts';
import { ROOT } from './root.ts';

export type ComposeOptions = Omit<BrokerOptions, 'runDir' | 'json'> & { readonly web?: string };

/** Directories that the image has of the checkout. */
const IN_IMAGE = 'deploy/labs/';

/** Prints the file; returns the exit status. Throws UsageError. */
export async function compose(
  script: string,
  args: readonly string[],
  options: ComposeOptions,
): Promise<number> {
  const web = options.web === undefined ? [] : [options.web];
  const taken = ['ned', ...web.map(() => 'web')];
  const components = await labComponents(labOptions(script, args, options), taken);
  const { path, mounts, rom } = places(script, options.rom ?? []);
  const given = labWords(options);
  const command = ['l4lab', 'compose', ...optionWords('--rom', options.rom), ...given];
  const text = composeFile({
    command: commandLine([...command, ...optionWords('--web', web), script, ...args]),
    broker: ['broker', ...optionWords('--rom', rom), ...given, path, ...args],
    components,
    mounts,
    builds: process.cwd() === ROOT,
    ...(options.web === undefined ? {} : { web: options.web }),
  });
  process.stdout.write(text);
  return 0;
}

/** Where ned's container finds the script and the directories of --rom: in the image, or mounted. */
function places(script: string, dirs: readonly string[]): { path: string; rom: string[]; mounts: string[] } {
  const mounts: string[] = [];
  const place = (dir: string, at: string): string => {
    const inRoot = `${relative(ROOT, resolve(dir))}/`;
    if (inRoot.startsWith(IN_IMAGE)) return inRoot.slice(0, -1);
    const here = relative(process.cwd(), resolve(dir));
    mounts.push(`${here.startsWith('..') ? resolve(dir) : `./${here}`}:${at}:ro`);
    return at;
  };
  const path = `${place(dirname(script), '/lab')}/${basename(script)}`;
  return { path, rom: dirs.map((dir, i) => place(dir, `/rom${i}`)), mounts };
}
