/** What a test says of the lab that it wants, and the command line that this becomes inside the container. */

import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { StartedNetwork } from 'testcontainers';

export interface LabOptions {
  /** Path of the ned script; the other files of its directory (vbus files, resolv.conf, ...) come along as rom. */
  readonly script: string;
  /** `arg[1]`, ... of the script. */
  readonly args?: readonly string[];
  /** Further files of rom by name, e.g. generated ones. They win over files beside the script. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** NICs of the machine as `l4lab run --nic` has them; default one 82540EM on a user network. */
  readonly nics?: readonly string[];
  /** Fixed names of the lab's DNS: name to IP address. */
  readonly hosts?: Readonly<Record<string, string>>;
  /**
   * Where addresses of the lab lead: `{ '10.0.2.100:80': 'web:8080' }`. The right side is seen from the container: another
   * container's name on `network`, or `host.docker.internal` for the machine that runs the tests.
   */
  readonly forwards?: Readonly<Record<string, string>>;
  /** Ports in the lab that the test wants to reach, `10.0.2.15:80`: see `Lab.address`. */
  readonly expose?: readonly string[];
  /** Records everything on the cable of the first NIC: see `Lab.wire` and `Lab.frames`. */
  readonly record?: boolean;
  /** `startLab` resolves when this text has been printed, by any task; default: when ned runs. */
  readonly ready?: string | RegExp;
  /** Most that `startLab` waits, in milliseconds; default 60,000. */
  readonly timeoutMs?: number;
  /**
   * Docker network on which other containers of the test are found by name. Any that has a name will do: the test's
   * testcontainers need not be ours.
   */
  readonly network?: Pick<StartedNetwork, 'getName'>;
  /** Default: the environment's L4LAB_IMAGE, or `l4lab`. */
  readonly image?: string;
  /** Further options of `l4lab run`. */
  readonly options?: readonly string[];
}

/** A file that goes into the container. */
export interface LabFile {
  readonly target: string;
  readonly source?: string;
  readonly content?: string | Buffer;
}

/** Directory of the script in the container. */
const ROM = '/lab';
/** Where the recording is written: in the container's own layer, as a tmpfs cannot be copied from. */
export const WIRE = '/tmp/wire.pcapng';
/** Of all files of rom: the lab is another user than the files' owner. */
export const MODE = 0o644;
/** First of the container's ports that lead to `expose`. */
const FIRST_PORT = 20_000;
/** Files beside the script that are larger all together are not copied by accident. */
const MAX_BYTES = 64 * 2 ** 20;

/** The arguments of `l4lab`. */
export function commandOf(options: LabOptions): string[] {
  const { args = [], hosts = {}, forwards = {}, expose = [], script } = options;
  return [
    'run',
    '--json',
    ...nicsOf(options).flatMap((nic) => ['--nic', nic]),
    ...Object.entries(hosts).flatMap(([name, address]) => ['--host', `${name}=${address}`]),
    ...Object.entries(forwards).flatMap(([from, to]) => ['--guest-forward', `${from}=${to}`]),
    ...expose.flatMap((address, n) => ['--host-forward', `0.0.0.0:${portOf(n)}=${address}`]),
    ...(options.options ?? []),
    `${ROM}/${basename(script)}`,
    ...args,
  ];
}

/** The container's port for number `n` of `expose`. */
export function portOf(n: number): number {
  return FIRST_PORT + n;
}

/** What the container gets of the script's directory and of `files`. Throws when there is no script, or too much. */
export function filesOf({ script, files = {} }: LabOptions): LabFile[] {
  if (!statSync(script, { throwIfNoEntry: false })?.isFile()) {
    throw new Error(`Cannot start a lab as its script must be a file: current value is "${script}"`);
  }
  const directory = dirname(resolve(script));
  // Links to files are files.
  const isFile = (name: string) => statSync(`${directory}/${name}`, { throwIfNoEntry: false })?.isFile();
  const names = readdirSync(directory).filter((name) => !Object.hasOwn(files, name) && isFile(name));
  const bytes = names.reduce((sum, name) => sum + statSync(`${directory}/${name}`).size, 0);
  if (bytes > MAX_BYTES) {
    throw new Error(
      `Cannot start a lab as the files beside ${script} must not exceed ${MAX_BYTES} bytes: they have ${bytes}; put the script into a directory of its own`,
    );
  }
  return [
    ...names.map((name) => ({ source: `${directory}/${name}`, target: `${ROM}/${name}` })),
    ...Object.entries(files).map(([name, content]) => ({
      target: `${ROM}/${name}`,
      content: typeof content === 'string' ? content : Buffer.from(content),
    })),
  ];
}

function nicsOf({ nics, record }: LabOptions): readonly string[] {
  const given = nics ?? (record ? ['e1000'] : []);
  if (!record) return given;
  const [first = '', ...others] = given;
  if (first === '' || first === 'none')
    throw new Error('Cannot record the wire of a lab as it has no NIC: leave `nics` out, or name one');
  return [`${first},record=${WIRE}`, ...others];
}
