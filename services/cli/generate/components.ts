/** The components of a script: what is to be started besides ned, by container engines and process managers. */
import { basename } from 'node:path';
import type { RestartPolicy } from '#common/task/restart';
import { restartPolicy } from '#common/task/restart';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import type { BrokerOptions } from '../broker.ts';
import type { LabOptions } from '../lab.ts';
import { UsageError } from '../problem.ts';
import { recordedTasks } from './recorded.ts';

/** One task of the script, or one that another task asks for. */
export interface Component {
  readonly name: string;
  /** Others depend on it. */
  readonly serves: boolean;
  /** What the script or the command line says of starting it again; undefined: nothing. */
  readonly restart?: RestartPolicy | undefined;
}

/** What a component may be called. */
const NAME = /^[a-zA-Z0-9._-]+$/;

/**
 * Runs the script in a broker and returns its components, the machine first. `taken` are names that others have.
 * Throws UsageError.
 */
export async function labComponents(options: LabOptions, taken: readonly string[]): Promise<Component[]> {
  const tasks = await recordedTasks(options);
  const components = tasks.flatMap(componentsOf);
  checkNames(components, taken);
  checkRestarts(
    Object.keys(options.restart ?? {}),
    tasks.map(({ name }) => name ?? ''),
  );
  return components;
}

/** A task, and the drivers that a switch with a bus asks ned for. */
function componentsOf({ name, argv, capabilities, served, restart }: m.ITaskStatus): Component[] {
  const serves = name === 'machine' || (served ?? []).length > 0;
  const task = { name: name ?? '', serves, restart: restartPolicy(restart ?? '') };
  const [program = '', ...options] = argv ?? [];
  const asks = basename(program) === 'l4vio_switch' && capabilities?.includes('vbus');
  const inProcess = options.some((option) => option.endsWith('in-process'));
  if (!asks || inProcess) return [task];
  return [task, ...driversOf(options).map((driver) => ({ name: driver, serves: true }))];
}

/** The switch's names for the drivers of the NICs that `--nic N[,...]` names; without it, started from outside, of the first. */
function driversOf(options: readonly string[]): string[] {
  const numbers = options.flatMap((word, i) => {
    const value = word === '--nic' ? options[i + 1] : word.startsWith('--nic=') ? word.slice(6) : undefined;
    return value === undefined ? [] : [Number.parseInt(value, 10) || 0];
  });
  return (numbers.length > 0 ? numbers : [0]).map((number) => (number === 0 ? 'ixl' : `ixl${number}`));
}

function checkNames(components: readonly Component[], others: readonly string[]): void {
  const taken = new Set(others);
  for (const { name } of components) {
    const refuse = (rule: string) =>
      new UsageError(
        `Cannot make a service of task '${name}' as ${rule}: give it another log tag in the script, e.g. log = { "curl2", "b" }`,
      );
    if (!NAME.test(name)) throw refuse('names of services have letters, digits, dots, _ and -');
    if (taken.has(name)) throw refuse('there is a service of that name already');
    taken.add(name);
  }
}

/** A policy for nobody is a mistake; what the script does not start itself has none. */
function checkRestarts(names: readonly string[], tasks: readonly string[]): void {
  const scripts = tasks.filter((task) => task !== 'machine');
  for (const name of names) {
    if (scripts.includes(name)) continue;
    throw new UsageError(
      `Cannot use --restart ${name} as the script starts no task of that name. Its tasks: ${scripts.join(', ')}`,
    );
  }
}

/** The options of `l4lab broker` that a script needs to be run again as it is run now; but for `--rom`. */
export function labWords(options: BrokerOptions): string[] {
  return [
    ...optionWords('--nic', options.nic),
    ...optionWords('--host', options.host),
    ...optionWords('--guest-forward', options.guestForward),
    ...optionWords('--host-forward', options.hostForward),
    ...optionWords('-e', options.execute),
    ...optionWords('--restart', options.restart),
  ];
}

/** An option that may be given several times, as words of a command line. */
export function optionWords(name: string, values: readonly string[] = []): string[] {
  return values.flatMap((value) => [name, value]);
}

/** A command line as a person writes it into a shell, on one line. */
export function commandLine(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word))).join(' ');
}
