/** `l4lab compose SCRIPT`: a compose file with one container for each component of the script. */
import { statSync } from 'node:fs';
import { basename, dirname, relative, resolve } from 'node:path';
import type { BrokerOptions } from '../broker.ts';
import { UsageError } from '../problem.ts';
import { labOptions } from '../run.ts';
import { commandLine, labComponents, labWords, optionWords, requireHostName } from './components.ts';
import { composeFile, OTHER_SERVICES } from './compose_file.ts';
import { publish, requireContained } from './compose_network.ts';
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
  for (const name of web) requireHostName('--web', name);
  for (const nic of options.nic ?? []) requireContained(nic);
  const tapPath = tap.map(tapScript);
  const lab = await labComponents(labOptions(script, args, options), refusal);
  const { path, mounts, rom } = places(script, options.rom ?? []);
  const { forwards, ports } = publish(options.hostForward ?? []);
  const command = ['l4lab', 'compose', ...optionWords('--rom', options.rom), ...labWords(options)];
  const more = [...optionWords('--web', web), ...optionWords('--tap', tap)];
  const given = labWords({ ...options, hostForward: forwards });
  const text = composeFile({
    ...lab,
    command: commandLine([...command, ...more, script, ...args]),
    broker: ['broker', ...optionWords('--rom', rom), ...given, path, ...args],
    ports,
    mounts,
    builds: process.cwd() === ROOT,
    web: options.web,
    tap: tapPath[0],
  });
  process.stdout.write(text);
  return 0;
}

function refusal(name: string): string | undefined {
  const taken = OTHER_SERVICES.some((other) => other === name);
  return taken ? 'there is a service of that name already' : undefined;
}

/** Its container has nothing mounted. */
function tapScript(script: string): string {
  const path = relative(ROOT, resolve(script));
  const refuse = (why: string) => new UsageError(`Cannot use --tap ${script} as ${why}`);
  if (!path.startsWith(IN_IMAGE)) throw refuse(`it must be in the image: name a script in ${IN_IMAGE}`);
  if (!statSync(script, { throwIfNoEntry: false })?.isFile()) throw refuse('there is no such file');
  return path;
}

/** Where ned's container finds the script and the directories of --rom: in the image, or mounted. */
function places(script: string, dirs: readonly string[]): { path: string; rom: string[]; mounts: string[] } {
  const mounts: string[] = [];
  const place = (dir: string, at: string): string => {
    const inRoot = `${relative(ROOT, resolve(dir))}/`;
    if (inRoot.startsWith(IN_IMAGE)) return inRoot.slice(0, -1);
    const here = relative(process.cwd(), resolve(dir));
    if (here.includes(':')) throw new UsageError(`Cannot mount ${dir} as its path must have no colon`);
    mounts.push(`${here.startsWith('..') ? resolve(dir) : `./${here}`}:${at}:ro`);
    return at;
  };
  const path = `${place(dirname(script), '/lab')}/${basename(script)}`;
  return { path, rom: dirs.map((dir, i) => place(dir, `/rom${i}`)), mounts };
}
