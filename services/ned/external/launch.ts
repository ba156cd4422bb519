/** A launch: what `ld:start` has recorded under a name, and the tasks that were made of it. */
import type { NamedCapabilities } from '../named_capabilities.ts';
import type { Task, TaskRequest } from '../task.ts';
import type { Instance } from './instance.ts';

/** Who asked for a launch, if not the script: a life of a task. */
export interface Asker {
  readonly task: Task;
  readonly life: number;
}

export class Launch {
  readonly name: string;
  request: TaskRequest;
  /** The first one is what Lua has got; further ones are replicas. */
  readonly tasks: Task[] = [];
  readonly instances = new Map<Task, Instance>();
  /** Tasks that a component is about to become. */
  readonly claimed = new Set<Task>();
  /** The task that has asked for it last, if it has since ned was started. */
  asker: Asker | undefined;
  /** Only if it is to be asked for: it was, and nobody has become the task yet. */
  wanted = false;

  constructor(name: string, request: TaskRequest) {
    this.name = name;
    this.request = request;
  }

  get first(): Task {
    return this.tasks[0] as Task;
  }

  /** True when a task, not the script, asks for it: anew for each start. */
  get askedFor(): boolean {
    return this.request.startedBy !== undefined;
  }

  /** Told by the script to end: it does not come back. */
  get withdrawn(): boolean {
    return !this.askedFor && !this.scales && this.first.killed;
  }

  /** Who has asked for it has ended since, or has begun another life. */
  get orphaned(): boolean {
    return (
      this.asker !== undefined && !(this.asker.task.running && this.asker.task.lives === this.asker.life)
    );
  }

  /** True while a component can become one of its tasks, or will be told why not. */
  get open(): boolean {
    return !this.askedFor || (this.wanted && !this.first.killed);
  }

  /** True when each start gets capabilities of its own. */
  get scales(): boolean {
    return (this.request.functions?.length ?? 0) > 0;
  }

  /** A task that no component is, or is about to be. */
  get free(): Task | undefined {
    return this.tasks.find(
      (task) => !this.claimed.has(task) && (task.settled || (task.state === 'initializing' && !task.process)),
    );
  }

  /** The components that are tasks of this launch. */
  get running(): Instance[] {
    return this.tasks.flatMap((task) => (task.running ? (this.instances.get(task) ?? []) : []));
  }

  /** True when a component that lives is the only task that there can be. */
  get taken(): boolean {
    return this.free === undefined && !this.scales && this.running.some((instance) => instance.alive);
  }

  /** Why a second component cannot become this task, and what to write in the script. */
  refusal(): string {
    const [other] = this.running;
    const where = other ? ` (process ${other.pid} on ${other.host})` : '';
    const names = createdNames(this.request.capabilities);
    const [name = 'virtnet'] = names;
    const which = names.length > 0 ? `capabilities (${names.join(', ')})` : 'capabilities';
    return `Cannot start another '${this.name}' as one is running${where} and its ${which} are values, which only one can use: write a function in the script, e.g. ${name} = function() return vswitch:create(0) end, and each start gets its own`;
  }
}

/** Objects that were created for this task alone. */
function createdNames(capabilities: NamedCapabilities): string[] {
  return capabilities.flatMap(({ name, client, server }) =>
    name && name !== 'rom' && (server || (client?.object ?? 0) !== 0) ? [name] : [],
  );
}
