/** `l4lab compose SCRIPT`: a compose file with one container for each component of the script. */
import { basename, dirname, relative, resolve } from 'node:path';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import type { BrokerOptions } from '../broker.ts';
import { UsageError } from '../problem.ts';
import { labOptions } from '../run.ts';
import { type Component, composeFile, OTHER_SERVICES } from './compose_file.ts';
import { recordedTasks } from './recorded.ts';

export type ComposeOptions = Omit<BrokerOptions, 'runDir' | 'json'> & {
  readonly web?: string;
  readonly tap?: string;
};

/** The checkout, or the directory of the image: where `l4lab` is. */
const ROOT = import.meta.dirname.replace(/(\/dist)?\/services\/cli\/generate$/, '');
/** Directories that the image has of it. */
const IN_IMAGE = 'deploy/labs/';
/** What a service may be called. */
const SERVICE = /^[a-zA-Z0-9._-]+$/;

/** Prints the file; returns the exit status. Throws UsageError. */
export async function compose(
  script: string,
  args: readonly string[],
  options: ComposeOptions,
): Promise<number> {
  const tasks = await recordedTasks(labOptions(script, args, options));
  const components = tasks.flatMap(componentsOf);
  checkNames(components);
  const { path, mounts, rom } = places(script, options.rom ?? []);
  const given = [
    ...pairs('--nic', options.nic),
    ...pairs('--host', options.host),
    ...pairs('--guest-forward', options.guestForward),
    ...pairs('-e', options.execute),
  ];
  const web = pairs('--web', options.web === undefined ? [] : [options.web]);
  const tap = pairs('--tap', options.tap === undefined ? [] : [options.tap]);
  const command = [
    'l4lab',
    'compose',
    ...pairs('--rom', options.rom),
    ...given,
    ...web,
    ...tap,
    script,
    ...args,
  ];
  const text = composeFile({
    command: command.map(quoted).join(' '),
    broker: ['broker', ...pairs('--rom', rom), ...given, path, ...args],
    components,
    mounts,
    builds: process.cwd() === ROOT,
    ...(options.web === undefined ? {} : { web: options.web }),
    ...(options.tap === undefined ? {} : { tap: tapScript(options.tap) }),
  });
  process.stdout.write(text);
  return 0;
}

/** A task, and the driver that a switch with a bus asks ned for. */
function componentsOf({ name, argv, capabilities, served }: m.ITaskStatus): Component[] {
  const serves = name === 'machine' || (served ?? []).length > 0;
  const task = { name: name ?? '', serves };
  const [program = '', ...options] = argv ?? [];
  const asks = basename(program) === 'l4vio_switch' && capabilities?.includes('vbus');
  const inProcess = options.some((option) => option.endsWith('in-process'));
  return asks && !inProcess ? [task, { name: 'ixl', serves: true }] : [task];
}

/** Its container has nothing mounted. */
function tapScript(script: string): string {
  const path = relative(ROOT, resolve(script));
  if (path.startsWith(IN_IMAGE)) return path;
  throw new UsageError(`Cannot use --tap ${script} as it must be in the image: name a script in ${IN_IMAGE}`);
}

function checkNames(components: readonly Component[]): void {
  const taken = new Set<string>(OTHER_SERVICES);
  for (const { name } of components) {
    const refuse = (rule: string) =>
      new UsageError(
        `Cannot make a service of task '${name}' as ${rule}: give it another log tag in the script, e.g. log = { "curl2", "b" }`,
      );
    if (!SERVICE.test(name)) throw refuse('names of services have letters, digits, dots, _ and -');
    if (taken.has(name)) throw refuse('there is a service of that name already');
    taken.add(name);
  }
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

function pairs(name: string, values: readonly string[] = []): string[] {
  return values.flatMap((value) => [name, value]);
}

/** A word as a shell needs it, on one line. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word);
}
