/** `l4lab stop`: ends running labs as Ctrl-C in their terminal would. */
import { setTimeout as sleep } from 'node:timers/promises';
import { toL4Error } from '#common/ipc/errors';
import { Ipc } from '#common/ipc/ipc';
import { randomName } from '#common/shm/run_dir';
import { Lab } from '../../proto/gen/services.js';
import { hasOwner } from './claims.ts';
import { capabilityOf } from './lab_calls.ts';
import { UsageError } from './problem.ts';
import { endProcess, processesOf, processStart } from './processes.ts';
import { absenceOf, type LabRecord, removeLab, runningLabs } from './registry.ts';

const LOOK_MS = 20;
/** Longer than the launcher itself gives its tasks. */
const GIVE_UP_MS = 6000;

export interface Stopped {
  readonly id: string;
  readonly command: readonly string[];
  /** "stopped"; "killed" when the launcher did not end by itself; "failed": it goes on. */
  readonly how: 'stopped' | 'killed' | 'failed';
  /** Why it goes on. */
  readonly problem?: string;
}

/** Ends the labs of these ids, or all of this user: each, whatever becomes of the others. Throws UsageError for an unknown id. */
export async function stop(ids: readonly string[]): Promise<Stopped[]> {
  const labs = runningLabs();
  const unknown = ids.filter((id) => !labs.some((lab) => lab.id === id));
  if (unknown.length > 0) {
    const running = labs.map((lab) => lab.id).join(', ') || 'none';
    throw new UsageError(`Cannot stop ${unknown.join(', ')} as no lab has that id. Running: ${running}`);
  }
  return Promise.all(labs.filter((lab) => ids.length === 0 || ids.includes(lab.id)).map(stopLab));
}

async function stopLab(lab: LabRecord): Promise<Stopped> {
  const problem = lab.external ? await stopComponents(lab) : undefined;
  if (problem !== undefined) return { id: lab.id, command: lab.command, how: 'failed', problem };
  if (!isHere(lab)) return gone(lab);
  endProcess(lab.pid, 'SIGTERM');
  const giveUp = performance.now() + GIVE_UP_MS;
  while (isHere(lab)) {
    if (performance.now() > giveUp) return kill(lab);
    await sleep(LOOK_MS);
  }
  return { id: lab.id, command: lab.command, how: 'stopped' };
}

/** Ends the tasks of an external lab, wherever they run. A broker that is away cannot: why they go on. */
async function stopComponents(lab: LabRecord): Promise<string | undefined> {
  const absence = absenceOf(lab);
  if (absence !== undefined) return `Cannot stop the tasks of lab ${lab.id} as ${absence}`;
  const ipc = new Ipc({ runDir: lab.dir, task: randomName() });
  try {
    await ipc.client(Lab, capabilityOf(lab.lab)).stopTasks({}, { deadlineMs: GIVE_UP_MS });
    return undefined;
  } catch (err) {
    return `Cannot stop the tasks of lab ${lab.id}: ${toL4Error(err).message}`;
  } finally {
    ipc.close();
  }
}

/** Whether the pid in the record is the launcher: in another container it may be anybody, or nobody. */
function isHere(lab: LabRecord): boolean {
  return processStart(lab.pid) === lab.startTicks;
}

/** It has ended since it was listed, or its pid is one of another container. */
function gone(lab: LabRecord): Stopped {
  const { id, command } = lab;
  if (!hasOwner(lab.dir)) return { id, command, how: 'stopped' };
  if (lab.external) {
    console.error(
      `l4lab: the tasks of lab ${id} have ended; its broker runs in another container: stop that one there`,
    );
    return { id, command, how: 'stopped' };
  }
  const problem = `Cannot stop lab ${id} as it runs in another container: stop it there`;
  return { id, command, how: 'failed', problem };
}

function kill(lab: LabRecord): Stopped {
  for (const pid of [lab.pid, ...processesOf(lab.dir)]) endProcess(pid, 'SIGKILL');
  removeLab(lab);
  return { id: lab.id, command: lab.command, how: 'killed' };
}
