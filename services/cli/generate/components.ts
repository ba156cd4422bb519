/** The components of a script: what is to be started besides ned, by container engines and process managers. */
import { basename } from 'node:path';
import { type RestartPolicy, restartPolicy } from '#common/task/restart';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import type { BrokerOptions } from '../broker.ts';
import type { LabOptions } from '../lab.ts';
import { UsageError } from '../problem.ts';
import { recordedScript } from './recorded.ts';

/** One task of the script, or one that another task asks for. */
export interface Component {
  readonly name: string;
  /** Others depend on it. */
  readonly serves: boolean;
  /** What the script or the command line says of starting it again; undefined: nothing. */
  readonly restart?: RestartPolicy | undefined;
  /** UDP ports that other hosts send to (VXLAN); undefined: it has nothing to do with them. */
  readonly udpPorts?: readonly number[];
}

export interface LabComponents {
  /** The machine first. */
  readonly components: readonly Component[];
  /** The script waits for what it starts: ned is not ready before that runs. */
  readonly waits: boolean;
}

/** What a component may be called. */
const NAME = /^[a-zA-Z0-9_][a-zA-Z0-9._-]*$/;
const VXLAN_PORT = 4789;

/**
 * Reads the script and returns its components. `refusal` says of a name why a service cannot have it. Throws UsageError.
 */
export async function labComponents(
  options: LabOptions,
  refusal: (name: string) => string | undefined,
): Promise<LabComponents> {
  const { tasks, waits } = await recordedScript(options);
  const names = new Set(tasks.map(({ name }) => name ?? ''));
  const components = tasks.flatMap((task) => [componentOf(task), ...driversOf(task, names)]);
  checkNames(components, refusal);
  checkRestarts(
    Object.keys(options.restart ?? {}),
    tasks.map(({ name }) => name ?? ''),
  );
  return { components, waits };
}

function componentOf({ name = '', argv, served, restart }: m.ITaskStatus): Component {
  const serves = name === 'machine' || (served ?? []).length > 0;
  const task = { name: name ?? '', serves, restart: restartPolicy(restart ?? '') };
  const tunnels = isSwitch(argv) ? valuesOf(argv, '--vxlan') : [];
  if (tunnels.length === 0) return task;
  const ports = tunnels.map((words) => Number(/(?:^|,)port=(\d+)/.exec(words)?.[1] ?? VXLAN_PORT));
  return { ...task, udpPorts: [...new Set(ports)] };
}

function isSwitch(argv: readonly string[] | null | undefined): argv is readonly string[] {
  return basename(argv?.[0] ?? '') === 'l4vio_switch';
}

/**
 * The drivers that a switch with a bus asks ned for, as ned calls them: one for each of `--nic N[,...]`; without it,
 * started from outside, for the first. Their names are added to `names`.
 */
function driversOf({ argv, capabilities }: m.ITaskStatus, names: Set<string>): Component[] {
  if (!isSwitch(argv) || !capabilities?.includes('vbus')) return [];
  if (argv.some((word) => word.endsWith('in-process'))) return [];
  const numbers = valuesOf(argv, '--nic').map((value) => Number.parseInt(value, 10) || 0);
  return (numbers.length > 0 ? numbers : [0]).map((number) => {
    const wanted = number === 0 ? 'ixl' : `ixl${number}`;
    let name = wanted;
    for (let n = 2; names.has(name); n++) name = `${wanted}-${n}`;
    names.add(name);
    return { name, serves: true };
  });
}

/** Values of an option that a program's command line has as two words or as one. */
function valuesOf(words: readonly string[], option: string): string[] {
  return words.flatMap((word, i) => {
    if (word.startsWith(`${option}=`)) return [word.slice(option.length + 1)];
    return word === option ? (words[i + 1] ?? []) : [];
  });
}

function checkNames(components: readonly Component[], refusal: (name: string) => string | undefined): void {
  const taken = new Set<string>();
  for (const { name } of components) {
    const why = !NAME.test(name)
      ? 'names of services have letters, digits, dots, _ and -, and do not begin with a dot or -'
      : taken.has(name)
        ? 'there is a service of that name already'
        : refusal(name);
    if (why !== undefined) {
      throw new UsageError(
        `Cannot make a service of task '${name}' as ${why}: give it another log tag in the script, e.g. log = { "curl2", "b" }`,
      );
    }
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

/** The name that a web server answers to. Throws UsageError unless it is a host name. */
export function requireHostName(option: string, name: string): void {
  if (/^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/i.test(name) && name.length <= 253) return;
  throw new UsageError(
    `Cannot use ${option} ${name || "''"} as it must be the name of a host, e.g. ftp.de.debian.org`,
  );
}

/** A command line as a person writes it into a shell, on one line. */
export function commandLine(words: readonly string[]): string {
  return words.map(shellWord).join(' ');
}

function shellWord(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (!LINE_ENDS.test(word)) return `'${word.replaceAll("'", "'\\''")}'`;
  const escaped = word.replace(/[\\']/g, '\\$&').replace(new RegExp(LINE_ENDS, 'g'), (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  return `$'${escaped}'`;
}

/** What would end a comment, or cannot stand in one. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones that are meant
const LINE_ENDS = /[\x00-\x1f\x7f-\x9f\u2028\u2029]/;
