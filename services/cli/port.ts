/** `l4lab port`: ports of a running switch, made and taken away by hand. */
import { toL4Error } from '#common/ipc/errors';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Lab } from '../../proto/gen/services.js';
import { capabilityOf, NO_LIMIT_MS } from './lab_calls.ts';
import { UsageError } from './problem.ts';
import type { LabRecord } from './registry.ts';
import { selectLab } from './select.ts';
import { linkText } from './stats_table.ts';
import { switchView } from './stats_view.ts';
import {
  ANSWER,
  newIpc,
  START,
  type SwitchClient,
  switchesOf,
  switchWithPorts,
  withSwitches,
} from './switches.ts';
import { table } from './table.ts';

export interface PortOptions {
  readonly lab?: string;
  readonly switch?: string;
  readonly json?: boolean;
}

export interface RunOnPortOptions extends PortOptions {
  /** NAME=VALUE. */
  readonly env?: readonly string[];
  /** Ends with the program, with its status. */
  readonly wait?: boolean;
}

export interface AddOptions extends RunOnPortOptions {
  /** Program and arguments, separated by blanks as in a script. */
  readonly run?: string;
}

const EXIT_KILLED = 137;
/** How lwIP programs configure their interface unless told otherwise (services/lwip). */
const DEFAULT_ENVIRONMENT = { IFCONFIG_IP4_vn0: 'dhcp' };

/** Prints the ports of all switches of a lab. */
export async function portList(options: PortOptions): Promise<number> {
  const lab = selectLab(options.lab);
  const views = await withSwitches(lab, options.switch, (switches) =>
    Promise.all(
      switches.map(async (one) => switchView(one.name, await one.ask((c) => c.stats({}, ANSWER)), undefined)),
    ),
  );
  const rows = views.flatMap((view) => view.ports.map((port) => ({ switch: view.switch, ...port })));
  if (options.json) {
    const known = rows.map(
      ({ in: _in, out: _out, drops: _drops, rxRing: _rx, txRing: _tx, ...port }) => port,
    );
    console.log(JSON.stringify(known, null, 2));
    return 0;
  }
  if (rows.length === 0) {
    console.log('There are no ports.');
    return 0;
  }
  const lines = rows.map((port) => [
    port.switch,
    String(port.number),
    port.name,
    port.kind,
    port.mac ?? '-',
    port.vlan,
    linkText(port),
    port.ready ? 'ready' : '-',
    port.task ?? (port.persistent ? '(free)' : '-'),
  ]);
  const head = ['SWITCH', '#', 'PORT', 'KIND', 'MAC', 'VLAN', 'LINK', 'CLIENT', 'STARTED HERE'];
  console.log(table([head, ...lines], new Set([1])).join('\n'));
  return 0;
}

/** Makes a port, and with --run a program on it. */
export async function portAdd(name: string, args: readonly string[], options: AddOptions): Promise<number> {
  const program = options.run === undefined ? undefined : programOf(options.run.split(/\s+/), options);
  if (options.wait && !program)
    throw new UsageError('Cannot use --wait as there is nothing to wait for: --run names a program');
  if (name.includes('=')) {
    const meant = name.startsWith('name=') ? name.slice('name='.length) : 'NAME';
    throw new UsageError(
      `Cannot make a port '${name}' as its name comes first, without '=': l4lab port add ${quoted(meant)} ${args[0] ?? 'vlan=access=7'}`,
    );
  }
  return withOne(options, async (one, lab) => {
    const request = { arguments: [`name=${name}`, ...args], ...(program ? { program } : {}) };
    const port = await one.ask((control) => control.addPort(request, program ? START : ANSWER));
    console.log(`Created ${portText(port)}`);
    if (!program) {
      console.log(`It stays until l4lab port del ${quoted(port.name)}. Start a program on it:`);
      console.log(`  l4lab port run ${quoted(port.name)} rom/curl -s http://...`);
      return 0;
    }
    return started(lab, port, options);
  });
}

/** Starts a program on a port that `portAdd` has made. */
export async function portRun(
  wanted: string,
  argv: readonly string[],
  options: RunOnPortOptions,
): Promise<number> {
  const program = programOf(argv, options);
  return withOne(
    options,
    async (one, lab) => {
      const port = await one.ask((control) => control.runOnPort({ port: wanted, program }, START));
      return started(lab, port, options);
    },
    [wanted],
  );
}

/** Takes a port away. */
export async function portDel(wanted: string, options: PortOptions): Promise<number> {
  return withOne(
    options,
    async (one) => {
      const port = await one.ask((control) => control.removePort({ port: wanted }, ANSWER));
      const client = port.task === '' ? '' : `; task '${port.task}' has lost its network`;
      console.log(`Removed ${portText(port)}${client}`);
      return 0;
    },
    [wanted],
  );
}

/** Takes the link of a port up or down. */
export async function portLink(wanted: string, state: string, options: PortOptions): Promise<number> {
  if (state !== 'up' && state !== 'down') {
    throw new UsageError(
      `Cannot set the link of '${wanted}' as it must be up or down: current value is '${state}'`,
    );
  }
  return withOne(
    options,
    async (one) => {
      const up = state === 'up';
      const port = await one.ask((control) => control.setLink({ port: wanted, up }, ANSWER));
      const lacking = up && port.noCarrier ? '; but its NIC has no link: see to its cable' : '';
      console.log(`Link ${state} at ${portText(port)}${lacking}`);
      return 0;
    },
    [wanted],
  );
}

/** The switch that is meant: named, the only one, or the one that has the port. */
async function withOne(
  options: PortOptions,
  use: (one: SwitchClient, lab: LabRecord) => Promise<number>,
  ports?: readonly string[],
): Promise<number> {
  const lab = selectLab(options.lab);
  const ipc = newIpc(lab);
  try {
    const switches = switchesOf(ipc, lab, options.switch);
    if (ports) return await use(await switchWithPorts(switches, ports), lab);
    const [one] = switches;
    if (one && switches.length === 1) return await use(one, lab);
    const names = switches.map(({ name }) => name).join(', ');
    throw new UsageError(
      `Cannot select a switch as lab ${lab.id} has ${switches.length}: name one with --switch: ${names}`,
    );
  } finally {
    ipc.close();
  }
}

async function started(
  lab: LabRecord,
  { name, task }: m.PortReply,
  { wait }: RunOnPortOptions,
): Promise<number> {
  console.log(
    lab.external
      ? `Task '${task}' is to run on port '${name}': start it with l4lab component ${task}`
      : `Task '${task}' runs on port '${name}': l4lab logs -f ${task}`,
  );
  return wait ? waitFor(lab, task) : 0;
}

/** Exit status of a task of the lab, when it has ended. */
async function waitFor(lab: LabRecord, task: string): Promise<number> {
  const ipc = newIpc(lab);
  try {
    const { killed, exitCode } = await ipc
      .client(Lab, capabilityOf(lab.lab))
      .waitTask({ task }, { deadlineMs: NO_LIMIT_MS });
    return killed ? EXIT_KILLED : exitCode;
  } catch (err) {
    throw new UsageError(`Cannot wait for task '${task}': ${toL4Error(err).message}`);
  } finally {
    ipc.close();
  }
}

function programOf(argv: readonly string[], { env = [] }: RunOnPortOptions): m.IProgramRequest {
  const words = argv.filter((word) => word !== '');
  if (words[0]?.startsWith('-')) {
    throw new UsageError(
      `Cannot start a program as options must stand before the port, and its path behind it: current value is '${words[0]}'`,
    );
  }
  if (words.length === 0)
    throw new UsageError('Cannot start a program as its path is missing: e.g. rom/curl');
  const given = env.map((pair): [string, string] => {
    const at = pair.indexOf('=');
    if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)];
    throw new UsageError(`Cannot use --env as it must be NAME=VALUE: current value is '${pair}'`);
  });
  return { argv: words, environment: { ...DEFAULT_ENVIRONMENT, ...Object.fromEntries(given) } };
}

function portText({ name, number, mac }: m.PortReply): string {
  return `port '${name}' (${number})${mac === '' ? '' : `, MAC ${mac}`}`;
}

/** A name as the shell takes it. */
function quoted(name: string): string {
  return /^[\w.:-]+$/.test(name) ? name : `'${name.replaceAll("'", `'\\''`)}'`;
}
