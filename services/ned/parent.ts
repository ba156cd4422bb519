/** What tasks and the launcher may ask of ned: services Parent and Lab. */
import type { Capability } from '#common/ipc/capability';
import { isCapability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Handlers } from '#common/ipc/service';
import { colorNumber } from '#common/obs/log_record';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Lab, Parent } from '../../proto/gen/services.js';
import type { Task } from './task.ts';
import type { Starter, Tasks } from './tasks.ts';

const MAX_NAME = 16;
const DEFAULT_COLOR = 7;
const DEFAULT_DEBUG = 2;
/** A task that the script did not start may still be started by another task; nobody waits longer for that. */
const LATE_START_MS = 5000;

/** Whether a task (or ned itself) still holds an object behind a gate. */
export type StillHolds = (gate: string, object: number, task: string) => boolean;

/** Handlers of one task's own parent object. */
export function parentHandlers(
  tasks: Tasks,
  starter: Starter,
  asking: Task,
  memAlloc: Capability,
  stillHolds: StillHolds,
): Handlers<typeof Parent> {
  const find = (name: string) => {
    const task = tasks.find(name);
    if (!task) throw new L4Error('ENOENT', `Cannot find task '${name}' as there is none of that id or name`);
    return task;
  };
  return {
    startTask: async (request) => {
      checkRequest(request);
      const capabilities = [...request.capabilities];
      const rom = asking.capabilities.find(({ name }) => name === 'rom');
      if (rom && !capabilities.some(({ name }) => name === 'rom')) capabilities.push(rom);
      const { argv, environment } = request;
      const color = request.logColor === '' ? DEFAULT_COLOR : colorNumber(request.logColor);
      const tag = request.logTag || undefined;
      const startedBy = asking.id;
      const debug = DEFAULT_DEBUG;
      const task = await starter.start({
        argv,
        environment,
        capabilities,
        tag,
        color,
        memAlloc,
        debug,
        startedBy,
      });
      return { task: task.id, name: task.name };
    },
    waitTask: async ({ task: name }, { signal }) => {
      const task = find(name);
      return tasks.watch(() => (task.running ? undefined : task.status()), signal);
    },
    killTask: async ({ task: name }) => {
      const task = find(name);
      if (task.startedBy !== asking.id) {
        throw new L4Error('EPERM', `Cannot kill task '${task.name}' as '${asking.name}' did not start it`);
      }
      tasks.kill(task);
      await task.ended;
      return task.status();
    },
    checkHolders: ({ gate, objects }) => ({
      objects: objects.map(({ object, tasks: holders }) => ({
        object: object ?? 0,
        tasks: (holders ?? []).filter((holder) => stillHolds(gate, object ?? 0, holder)),
      })),
    }),
  };
}

function checkRequest({ argv, capabilities }: m.StartTaskRequest): void {
  if (!argv[0])
    throw new L4Error('EINVAL', 'Cannot start task as its program is missing: argv[0] is e.g. "rom/ixl"');
  for (const { name, client, server } of capabilities) {
    if (!name || name.length > MAX_NAME) {
      throw new L4Error(
        'EINVAL',
        `Cannot start ${argv[0]} as names of capabilities have 1 to ${MAX_NAME} characters: current value is '${name}'`,
      );
    }
    if (!server && !isCapability(client)) {
      throw new L4Error('EINVAL', `Cannot start ${argv[0]} as its capability '${name}' is malformed`);
    }
  }
}

/** Where the script is. */
export interface ScriptState {
  state: 'loading' | 'serving' | 'failed';
  name: string;
  /** Its error message; empty as long as there is none. */
  error: string;
}

/** For the launcher. `waits`: see Rehearsal. */
export function labHandlers(
  tasks: Tasks,
  script: ScriptState,
  waits: () => boolean = () => false,
): Handlers<typeof Lab> {
  return {
    status: () => ({
      tasks: tasks.all.map((task) => task.status()),
      scriptState: script.state,
      script: script.name,
      error: script.error,
      waits: waits(),
    }),
    stopTasks: async () => {
      await tasks.stop();
      return {};
    },
    waitTask: async ({ task: name }, { signal }) => {
      const late = lateStart(tasks, script);
      try {
        return await tasks.watch(() => {
          const task = tasks.find(name);
          if (task) return task.running ? undefined : task.status();
          if (late.over()) throw neverStarts(tasks, script, name);
          return undefined;
        }, signal);
      } finally {
        late.stop();
      }
    },
  };
}

/** Whether a task that is not there can still come; makes the watchers look again when that changes. */
function lateStart(tasks: Tasks, script: ScriptState): { over(): boolean; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  let elapsed = false;
  return {
    over: () => {
      if (script.state === 'loading') return false;
      if (script.state === 'failed' || tasks.running === 0) return true;
      timer ??= setTimeout(() => {
        elapsed = true;
        tasks.changed();
      }, LATE_START_MS);
      return elapsed;
    },
    stop: () => clearTimeout(timer),
  };
}

function neverStarts(tasks: Tasks, script: ScriptState, name: string): L4Error {
  const names = [...new Set(tasks.all.map((task) => task.name))].join(', ') || 'none';
  const why =
    script.state === 'failed'
      ? `the script failed: ${script.error}`
      : 'the script has ended without starting it';
  return new L4Error('ENOENT', `Cannot wait for task '${name}' as ${why}; tasks so far: ${names}`, {
    code: 'NED_NO_TASK',
  });
}
