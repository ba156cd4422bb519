/**
 * The command line of l4vio_switch.
 *
 * Options take effect in the order they are written: `-q -v` is back at warnings, `-v -D packet=trace` is info plus
 * every packet. Mistakes of the user throw OptionError; what the original ignored silently comes back as a warning.
 */
import { parseArgs } from 'node:util';
import { MAX_MTU, MIN_MTU } from '#common/vnet/net_config';
import { type PortSpec, parseNicArguments, parseTunnelArguments } from './factory_args.ts';
import { addStorm } from './limit_args.ts';
import type { StormLimit } from './limits.ts';
import { COMPONENTS, type Component, LEVELS, type LevelName, uniformLevels } from './log.ts';

/** Where the NIC driver of the vbus runs: as a task of its own, or linked into the switch. */
export type IxlMode = 'task' | 'in-process';

/** What `--nic` says of one Ethernet controller of the vbus. */
export interface NicChoice {
  /** Which one, counted from 0 in the order of the vbus. */
  readonly index: number;
  readonly spec: Partial<PortSpec>;
}

export interface Options {
  /** Most ports at a time, the NIC's included, the monitor's not. */
  readonly ports: number;
  /** Most entries of a virtqueue. */
  readonly queueSize: number;
  /** Give ports without `mac=` a random address. */
  readonly assignMacs: boolean;
  /** Verbosity of each component. */
  readonly levels: Readonly<Record<Component, number>>;
  /** Names of capabilities; when there are any, clients may register only these dataspaces. */
  readonly trustedDataspaces: readonly string[];
  readonly ixl: IxlMode;
  /** The NICs that become ports; empty: all that the vbus has. */
  readonly nics: readonly NicChoice[];
  /** VXLAN ports without a client. */
  readonly tunnels: readonly PortSpec[];
  /** MTU to offer at ports without one of their own, in bytes behind the Ethernet header. */
  readonly mtu?: number | undefined;
  /** Seconds after which an address that was not seen is forgotten; 0: never. */
  readonly macAge: number;
  /** Storm control of ports that have none of their own. */
  readonly storm?: StormLimit | undefined;
  readonly help: boolean;
  /** What was ignored, one sentence each. */
  readonly warnings: readonly string[];
}

/** A mistake on the command line; the switch does not start. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
  readonly code = 'VSWITCH_BAD_OPTION';
}

export const DEFAULT_PORTS = 256;
export const MAX_PORTS = 4096;
export const DEFAULT_QUEUE_SIZE = 256;
const MAX_QUEUE_SIZE = 32768;
const MAX_MAC_AGE = 1_000_000;
const MAX_NIC_INDEX = 255;

export const USAGE = `Usage: l4vio_switch [options]
  -p, --ports N          at most N ports (1..${MAX_PORTS}, default ${DEFAULT_PORTS})
  -s, --size N           at most N entries per virtqueue (power of two, default ${DEFAULT_QUEUE_SIZE})
  -M                     do not give ports a random MAC address
  -m, --mac              give them one (the default; kept for old scripts)
  -D, --debug [C=]LEVEL  verbosity: quiet warn info debug trace; of one component: ${COMPONENTS.join(' ')}
  -v, --verbose          one level more
  -q, --quiet            errors only
  -d, --register-ds CAP  clients may share only the dataspaces named so (repeatable)
      --ixl MODE         NIC driver as a task of its own (task, the default) or inside the switch (in-process)
      --nic N[,KEY=VALUE...]
                         Ethernet controller N of the vbus (from 0) becomes a port, with name=, vlan=, rate-in=,
                         rate-out=, storm= as in create(0, ...) (repeatable; default: every one does)
      --vxlan vni=N,remote=ADDRESS[:PORT][,KEY=VALUE...]
                         a port to the same network in other switches (remote= for each, or group=ADDRESS,dev=NAME for
                         all); also name=, vlan=, local=, port=, dev=, allow=, ttl=, rate-in=, rate-out=, storm=
                         (repeatable)
      --mtu BYTES        offer this MTU at ports without mtu= (${MIN_MTU}..${MAX_MTU}; default: none is offered)
      --mac-age SECONDS  forget addresses that were not seen for so long (default 0: never)
      --storm [K=]FRAMES storm control of ports without storm=: frames per second, also of one kind K
                         (broadcast, multicast, unknown; repeatable)
  -h, --help             this text`;

const SPEC = {
  ports: { type: 'string', short: 'p' },
  size: { type: 'string', short: 's' },
  mac: { type: 'boolean', short: 'm' },
  'no-mac': { type: 'boolean', short: 'M' },
  debug: { type: 'string', short: 'D' },
  verbose: { type: 'boolean', short: 'v' },
  quiet: { type: 'boolean', short: 'q' },
  'register-ds': { type: 'string', short: 'd' },
  ixl: { type: 'string' },
  nic: { type: 'string' },
  vxlan: { type: 'string' },
  mtu: { type: 'string' },
  'mac-age': { type: 'string' },
  storm: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** Parses the arguments behind argv[0]. Throws OptionError. */
export function parseOptions(args: readonly string[]): Options {
  const options = {
    ports: DEFAULT_PORTS,
    queueSize: DEFAULT_QUEUE_SIZE,
    assignMacs: true,
    trustedDataspaces: [] as string[],
    ixl: 'task' as IxlMode,
    nics: [] as NicChoice[],
    tunnels: [] as PortSpec[],
    mtu: undefined as number | undefined,
    macAge: 0,
    storm: undefined as StormLimit | undefined,
    help: false,
    warnings: [] as string[],
  };
  let verbosity: number = LEVELS.warn;
  let levels = uniformLevels(verbosity);
  for (const token of tokenize(args)) {
    if (token.kind === 'positional') {
      options.warnings.push(`Ignoring argument '${token.value}' as the switch takes options only`);
      continue;
    }
    if (token.kind !== 'option') continue;
    const value = token.value ?? '';
    if (token.name === 'ports') options.ports = parsePorts(value);
    else if (token.name === 'size') options.queueSize = parseSize(value);
    else if (token.name === 'no-mac') options.assignMacs = false;
    else if (token.name === 'register-ds') options.trustedDataspaces.push(value);
    else if (token.name === 'ixl') options.ixl = parseIxl(value);
    else if (token.name === 'nic') options.nics.push(parseNic(value, options.nics));
    else if (token.name === 'vxlan') options.tunnels.push(parseVxlan(value));
    else if (token.name === 'mtu') options.mtu = parseMtu(value);
    else if (token.name === 'mac-age') options.macAge = parseMacAge(value);
    else if (token.name === 'storm') options.storm = parseStorm(value, options.storm);
    else if (token.name === 'help') options.help = true;
    else if (token.name === 'debug') {
      const warning = setLevel(levels, value);
      if (warning !== undefined) options.warnings.push(warning);
    } else if (token.name === 'verbose' || token.name === 'quiet') {
      verbosity = token.name === 'quiet' ? LEVELS.quiet : ((verbosity << 1) | 1) & LEVELS.trace;
      levels = uniformLevels(verbosity);
    }
  }
  return { ...options, levels };
}

function tokenize(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: SPEC, allowPositionals: true, tokens: true }).tokens;
  } catch (cause) {
    throw new OptionError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function parsePorts(text: string): number {
  const ports = decimal(text);
  if (ports >= 1 && ports <= MAX_PORTS) return ports;
  throw new OptionError(
    `Cannot set the number of ports as it must be 1..${MAX_PORTS}: current value is '${text}'`,
  );
}

function parseSize(text: string): number {
  const size = decimal(text);
  if (size >= 1 && size <= MAX_QUEUE_SIZE && (size & (size - 1)) === 0) return size;
  throw new OptionError(
    `Cannot set the queue size as it must be a power of two 1..${MAX_QUEUE_SIZE}: current value is '${text}'`,
  );
}

function parseIxl(text: string): IxlMode {
  if (text === 'task' || text === 'in-process') return text;
  throw new OptionError(
    `Cannot set the place of the NIC driver as it must be task or in-process: current value is '${text}'`,
  );
}

/** `N[,KEY=VALUE...]`. */
function parseNic(text: string, before: readonly NicChoice[]): NicChoice {
  const [first = '', ...words] = text.split(',');
  const index = decimal(first);
  if (!(index <= MAX_NIC_INDEX)) {
    throw new OptionError(
      `Cannot use --nic ${text} as it must start with the number of an Ethernet controller, 0..${MAX_NIC_INDEX}: current value is '${first}'`,
    );
  }
  if (before.some((nic) => nic.index === index))
    throw new OptionError(
      `Cannot use --nic ${text} as each NIC can be one port only: ${index} is there twice`,
    );
  try {
    return { index, spec: parseNicArguments(joinLists(words)) };
  } catch (cause) {
    throw new OptionError(`Cannot use --nic ${text}: ${(cause as Error).message}`, { cause });
  }
}

/** A word without `=` goes on with the list before it, as in `vlan=trunk=1,2`. */
function joinLists(words: readonly string[]): string[] {
  const args: string[] = [];
  for (const word of words) {
    if (word.includes('=') || args.length === 0) args.push(word);
    else args.push(`${args.pop()},${word}`);
  }
  return args;
}

/** `KEY=VALUE[,KEY=VALUE...]`. */
function parseVxlan(text: string): PortSpec {
  try {
    return parseTunnelArguments(joinLists(text.split(',')));
  } catch (cause) {
    throw new OptionError(`Cannot use --vxlan ${text}: ${(cause as Error).message}`, { cause });
  }
}

function parseMtu(text: string): number {
  const mtu = decimal(text);
  if (mtu >= MIN_MTU && mtu <= MAX_MTU) return mtu;
  throw new OptionError(
    `Cannot offer an MTU as it must be ${MIN_MTU}..${MAX_MTU} bytes: current value is '${text}'`,
  );
}

function parseMacAge(text: string): number {
  const seconds = decimal(text);
  if (seconds <= MAX_MAC_AGE) return seconds;
  throw new OptionError(
    `Cannot set the age of MAC addresses as it must be 0 (never forgotten) to ${MAX_MAC_AGE} seconds: current value is '${text}'`,
  );
}

function parseStorm(text: string, before: StormLimit | undefined): StormLimit {
  try {
    return addStorm(before, text);
  } catch (cause) {
    throw new OptionError(
      `Cannot set storm control. ${(cause as Error).message}: current value is '${text}'`,
      { cause },
    );
  }
}

function decimal(text: string): number {
  return /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
}

/** Applies the argument of one `-D`; returns a warning when it makes no sense. */
function setLevel(levels: Record<Component, number>, text: string): string | undefined {
  const [first, second] = text.split('=', 2) as [string, string?];
  const components =
    second === undefined ? COMPONENTS : COMPONENTS.filter((component) => component === first);
  const name = second ?? first;
  const level = Object.hasOwn(LEVELS, name) ? LEVELS[name as LevelName] : undefined;
  if (level === undefined || components.length === 0) {
    return `Ignoring debug level '${text}' as it must be [component=]level with a component of ${COMPONENTS.join(', ')} and a level of ${Object.keys(LEVELS).join(', ')}`;
  }
  for (const component of components) levels[component] = level;
  return undefined;
}
