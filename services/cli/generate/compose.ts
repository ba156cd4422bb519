/** `l4lab compose SCRIPT`: a compose file with one container for each component of the script. */
import { basename, dirname, relative, resolve } from 'node:path';
import type { BrokerOptions } from '../broker.ts';
import { UsageError } from '../problem.ts';
import { labOptions } from '../run.ts';
import { commandLine, labComponents, labWords, optionWords } from './components.ts';
import { composeFile, OTHER_SERVICES } from './compose_file.ts';
import { ROOT } from './root.ts';

export type ComposeOptions = Omit<BrokerOptions, 'runDir' | 'json'> & {
  readonly web?: string;
  readonly tap?: string;
};

/** Directories that the image has of the checkout. */
const IN_IMAGE = 'deploy/labs/';

/** Prints the file; returns the exit status. Throws UsageError. */
export async function compose(
  script: string,
  args: readonly string[],
  options: ComposeOptions,
): Promise<number> {
  const web = options.web === undefined ? [] : [options.web];
  const tap = options.tap === undefined ? [] : [options.tap];
  const components = await labComponents(labOptions(script, args, options), [...OTHER_SERVICES]);
  const { path, mounts, rom } = places(script, options.rom ?? []);
  const given = labWords(options);
  const command = ['l4lab', 'compose', ...optionWords('--rom', options.rom), ...given];
  const more = [...optionWords('--web', web), ...optionWords('--tap', tap)];
  const text = composeFile({
    command: commandLine([...command, ...more, script, ...args]),
    broker: ['broker', ...optionWords('--rom', rom), ...given, path, ...args],
    components,
    mounts,
    builds: process.cwd() === ROOT,
    ...(options.web === undefined ? {} : { web: options.web }),
    ...(options.tap === undefined ? {} : { tap: tapScript(options.tap) }),
  });
  process.stdout.write(text);
  return 0;
}

/** Its container has nothing mounted. */
function tapScript(script: string): string {
  const path = relative(ROOT, resolve(script));
  if (path.startsWith(IN_IMAGE)) return path;
  throw new UsageError(`Cannot use --tap ${script} as it must be in the image: name a script in ${IN_IMAGE}`);
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
