/** `l4lab ps`: the tasks of the running labs. */

import { hostname } from 'node:os';
import { toL4Error } from '#common/ipc/errors';
import { Ipc } from '#common/ipc/ipc';
import { randomName } from '#common/shm/run_dir';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Lab as LabService, MachineControl } from '../../proto/gen/services.js';
import { capabilityOf } from './lab_calls.ts';
import { processUsage } from './processes.ts';
import { absenceOf, type LabRecord, runningLabs } from './registry.ts';
import { table } from './table.ts';

const ANSWER_MS = 2000;

export interface LabView {
  readonly id: string;
  readonly command: readonly string[];
  readonly pid: number;
  readonly started: number;
  /** Why the lab could not be asked. */
  readonly problem?: string;
  readonly scriptState?: string;
  readonly tasks: readonly TaskView[];
  readonly nics: readonly m.INicStatus[];
}

/** A task as `ps --json` prints it. */
export interface TaskView {
  readonly name: string;
  /** "initializing", "running", "zombie". */
  readonly state: string;
  readonly exitCode: number;
  readonly killed: boolean;
  /** 0: it could not be started. */
  readonly pid: number;
  /** Where the pid belongs to, if not to this machine: the name of a container. */
  readonly host: string;
  readonly argv: readonly string[];
  /** Milliseconds since the Unix epoch; 0: not ended. */
  readonly started: number;
  readonly ended: number;
  /** "no", "on-failure", "always"; empty: nobody has said. */
  readonly restart: string;
  /** How often it has been started again. */
  readonly restarts: number;
  /** How it ended last, e.g. "was ended by SIGKILL", also while it runs again; empty: never so far. */
  readonly lastEnd: string;
  readonly capabilities: readonly string[];
  readonly cpuSeconds?: number;
  readonly rssBytes?: number;
}

/** Asks every running lab of this user. */
export async function views(): Promise<LabView[]> {
  return Promise.all(runningLabs().map(view));
}

async function view(lab: LabRecord): Promise<LabView> {
  const base = { id: lab.id, command: lab.command, pid: lab.pid, started: lab.started };
  const problem = absenceOf(lab);
  if (problem !== undefined) return { ...base, problem, tasks: [], nics: [] };
  const ipc = new Ipc({ runDir: lab.dir, task: randomName() });
  try {
    const [status, machine] = await Promise.all([
      ipc.client(LabService, capabilityOf(lab.lab)).status({}, { deadlineMs: ANSWER_MS }),
      machineStatus(ipc, lab),
    ]);
    const tasks = status.tasks.map(taskView);
    return { ...base, scriptState: status.scriptState, tasks, nics: machine.nics.map(nicView) };
  } catch (err) {
    return { ...base, problem: toL4Error(err).message, tasks: [], nics: [] };
  } finally {
    ipc.close();
  }
}

/** The machine of an external lab may be away: no NICs then. */
async function machineStatus(ipc: Ipc, lab: LabRecord): Promise<{ nics: readonly m.INicStatus[] }> {
  const control = ipc.client(MachineControl, capabilityOf(lab.control));
  const status = control.status({}, { deadlineMs: ANSWER_MS });
  return lab.external ? status.catch(() => ({ nics: [] })) : status;
}

/** Not `...task`: fields of a message that have their default are not its own. */
function taskView(task: m.ITaskStatus): TaskView {
  const pid = task.pid ?? 0;
  const host = task.host ?? '';
  // The pid of another container is somebody else's here.
  const isHere = pid !== 0 && (host === '' || host === hostname());
  return {
    name: task.name ?? '',
    state: task.state ?? '',
    exitCode: task.exitCode ?? 0,
    killed: task.killed ?? false,
    pid,
    host,
    argv: task.argv ?? [],
    started: task.started ?? 0,
    ended: task.ended ?? 0,
    restart: task.restart ?? '',
    restarts: task.restarts ?? 0,
    lastEnd: task.lastEnd ?? '',
    capabilities: task.capabilities ?? [],
    ...(isHere ? processUsage(pid) : {}),
  };
}

function nicView(nic: m.INicStatus): m.INicStatus {
  return {
    model: nic.model ?? '',
    mac: nic.mac ?? '',
    wire: nic.wire ?? '',
    rxPackets: nic.rxPackets ?? 0,
    rxBytes: nic.rxBytes ?? 0,
    txPackets: nic.txPackets ?? 0,
    txBytes: nic.txBytes ?? 0,
    rxMissed: nic.rxMissed ?? 0,
    dmaFaults: nic.dmaFaults ?? 0,
    leases: (nic.leases ?? []).map(({ mac, address }) => ({ mac: mac ?? '', address: address ?? '' })),
  };
}

/** The table that people read. */
export function formatViews(labs: readonly LabView[]): string {
  if (labs.length === 0) return 'No lab is running.';
  return labs.map(formatView).join('\n\n');
}

function formatView(lab: LabView): string {
  const head = `lab ${lab.id}  ${lab.command.join(' ')}  (launcher pid ${lab.pid}, up ${duration(Date.now() - lab.started)}, script ${lab.scriptState ?? 'unknown'})`;
  if (lab.problem) return `${head}\n  cannot be asked: ${lab.problem}`;
  const rows = lab.tasks.map((task) => [
    task.name,
    stateText(task),
    task.pid ? String(task.pid) : '-',
    task.cpuSeconds === undefined ? '-' : `${task.cpuSeconds.toFixed(1)} s`,
    task.rssBytes === undefined ? '-' : `${Math.round(task.rssBytes / 2 ** 20)} MiB`,
    task.argv.join(' '),
  ]);
  const nics = lab.nics.map(
    (nic) =>
      `  nic ${nic.model} ${nic.mac} wire=${nic.wire} rx=${nic.rxPackets} tx=${nic.txPackets} missed=${nic.rxMissed} dma-faults=${nic.dmaFaults}${leasesOf(nic)}`,
  );
  const lines = table([['TASK', 'STATE', 'PID', 'CPU', 'MEMORY', 'COMMAND'], ...rows]);
  return [head, ...lines.map((line) => `  ${line}`), ...nics].join('\n');
}

function leasesOf({ leases }: m.INicStatus): string {
  if (!leases?.length) return '';
  return leases.map(({ mac, address }) => `\n    lease ${address} to ${mac}`).join('');
}

/** `running (2 restarts)`, `restarting (was ended by SIGKILL)`, `exit 0`. */
function stateText({ state, killed, exitCode, restarts, lastEnd }: TaskView): string {
  if (state === 'initializing' && lastEnd !== '') return `restarting (${lastEnd})`;
  const text = state === 'zombie' ? (killed ? 'killed' : `exit ${exitCode}`) : state;
  return restarts === 0 ? text : `${text} (${restarts} restart${restarts === 1 ? '' : 's'})`;
}

function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
