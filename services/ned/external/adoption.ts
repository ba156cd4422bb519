/**
 * Components of a broker before this one: those that live are tasks again at once, and belong to the launches that
 * the script will record; those that have ended meanwhile are told to everybody once the script has run.
 */
import { restartPolicy } from '#common/task/restart';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import type { Task, TaskRequest } from '../task.ts';
import type { Tasks } from '../tasks.ts';
import { Instance } from './instance.ts';
import type { InstanceStore, Stored } from './store.ts';

/** A component that is a task. */
export interface Member {
  readonly task: Task;
  readonly instance: Instance;
}

/** What another task had asked for; nobody records it again. */
export interface AskedFor extends Member {
  /** Name of the launch. */
  readonly launch: string;
  readonly request: TaskRequest;
}

export interface AdoptionContext {
  readonly runDir: string;
  readonly tasks: Tasks;
  readonly store: InstanceStore;
  readonly onAskedFor: (found: AskedFor) => void;
  /** A member of a launch that the script has yet to record. */
  readonly onMember: (found: Member) => void;
  readonly say: (text: string) => void;
}

export class Adoption {
  readonly #context: AdoptionContext;
  /** By launch. */
  readonly #members = new Map<string, Member[]>();
  readonly #lost: string[] = [];

  constructor(context: AdoptionContext) {
    this.#context = context;
  }

  /** Looks who is there. */
  resume(): void {
    for (const stored of this.#context.store.load()) {
      const instance = this.#aliveInstance(stored);
      if (instance) this.#adopt(stored, instance);
      else {
        this.#context.store.remove(stored.id);
        this.#lost.push(stored.record.task);
      }
    }
  }

  /** The members of a launch, which the script has recorded now. */
  takeMembers(launch: string): readonly Member[] {
    const members = this.#members.get(launch) ?? [];
    this.#members.delete(launch);
    return members;
  }

  /** True for a task whose launch the script has yet to record. */
  has(task: Task): boolean {
    return [...this.#members.values()].some((members) => members.some((member) => member.task === task));
  }

  /** Ids of the tasks that ended while there was no broker; once. */
  takeLost(): readonly string[] {
    return this.#lost.splice(0);
  }

  /** Undefined: it has ended, maybe together with its lifeline. */
  #aliveInstance(stored: Stored): Instance | undefined {
    try {
      const instance = new Instance(this.#context.runDir, stored);
      return instance.alive ? instance : undefined;
    } catch {
      return undefined;
    }
  }

  #adopt({ record, pid, host }: Stored, instance: Instance): void {
    const { tasks, say, onAskedFor, onMember } = this.#context;
    const request = requestOf(record);
    const task = tasks.create(record.name, request, record.task);
    tasks.adopt(task, request, instance, { tag: record.logTag, color: record.logColor });
    say(`Ned: task '${record.name}' (process ${pid} on ${host}) goes on`);
    if (record.startedBy !== '') {
      onAskedFor({ launch: record.launch, request, task, instance });
      return;
    }
    this.#members.set(record.launch, [...(this.#members.get(record.launch) ?? []), { task, instance }]);
    onMember({ task, instance });
  }
}

/** What a launch was, as far as a running task's record tells it. */
function requestOf(record: m.LaunchRecord): TaskRequest {
  const { argv, environment, capabilities, memAlloc, logTag, logColor, debug, startedBy, restart } = record;
  return {
    argv,
    environment,
    capabilities,
    tag: logTag,
    color: logColor,
    memAlloc: memAlloc as TaskRequest['memAlloc'],
    debug,
    restart: restartPolicy(restart),
    ...(startedBy === '' ? {} : { startedBy }),
  };
}
