/** Service Broker: what components may ask of ned. */
import { hostname } from 'node:os';
import type { Capability } from '#common/ipc/capability';
import { rootCapability } from '#common/ipc/capability';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import type { Handlers } from '#common/ipc/service';
import { isRandomName } from '#common/shm/run_dir';
import { VERSION } from '#common/version';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import type { Broker } from '../../../proto/gen/services.js';
import type { ScriptState } from '../parent.ts';
import type { Task } from '../task.ts';
import type { Launches } from './launches.ts';

/** A gate that does not answer within this time serves nobody. */
const ANSWER_MS = 1000;

export function brokerHandlers(launches: Launches, script: ScriptState, ipc: Ipc): Handlers<typeof Broker> {
  return {
    fetch: (request, { signal }) => {
      if (!isRandomName(request.instance)) {
        throw new L4Error('EINVAL', `Cannot start '${request.task}' as the component's id is malformed`);
      }
      checkVersion(request);
      return launches.fetch(request, signal);
    },
    log: async ({ instance, chunks }) => {
      await launches.instance(instance).write(chunks);
      return {};
    },
    ended: ({ instance, status }) => {
      launches.instance(instance).reportEnd(status);
      return {};
    },
    command: async ({ instance }, { signal }) => ({
      kind: await launches.instance(instance).nextOrder(signal),
    }),
    health: async ({ task }) => {
      const problem = task === 'ned' ? scriptProblem(script) : await taskProblem(launches, ipc, task);
      return { ready: problem === undefined, text: problem ?? `${task} is ready` };
    },
  };
}

function checkVersion({ version, task }: m.FetchRequest): void {
  if (version === VERSION) return;
  throw new L4Error(
    'EINVAL',
    `Cannot start '${task}' as broker and component must be of the same version: the broker on ${hostname()} is l4lab ${VERSION}, this component is l4lab ${version || '(none)'}`,
    { code: 'BROKER_VERSION' },
  );
}

function scriptProblem({ state, error }: ScriptState): string | undefined {
  if (state === 'serving') return undefined;
  return state === 'failed'
    ? `ned is not ready: the script failed: ${error}`
    : 'ned is not ready: its script runs';
}

async function taskProblem(launches: Launches, ipc: Ipc, name: string): Promise<string | undefined> {
  const task = launches.find(name);
  if (!task) return `${name} is not ready: there is no such task; there are ${launches.names}`;
  if (!task.running) return `${name} is not ready: ${task.epitaph}`;
  if (task.state !== 'running') return `${name} is not ready: no component has become it yet`;
  const known = launches.problemOf(task);
  if (known !== undefined) return `${name} is not ready: ${known}`;
  const silent = await Promise.all(gatesOf(task).map((gate) => silence(ipc, gate)));
  const [first] = silent.filter((text) => text !== undefined);
  return first === undefined ? undefined : `${name} is not ready: ${first}`;
}

function gatesOf({ capabilities }: Task): { name: string; cap: Capability }[] {
  return capabilities.flatMap(({ name, server }) =>
    server?.gate && server.secret
      ? [{ name: name ?? '', cap: rootCapability({ gate: server.gate, secret: server.secret }) }]
      : [],
  );
}

/** Why a gate does not serve; undefined: it does. */
async function silence(
  ipc: Ipc,
  { name, cap }: { name: string; cap: Capability },
): Promise<string | undefined> {
  try {
    await ipc.interfaces(cap, { deadlineMs: ANSWER_MS });
    return undefined;
  } catch (err) {
    return `it does not serve '${name}' (${toL4Error(err).message})`;
  }
}
