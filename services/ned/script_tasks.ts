/** The tasks of a script: `ld:start`, and what can be done with the task that it returns (l4re-facts.md 1.6 to 1.8). */
import type { Capability } from '#common/ipc/capability';
import type { LuaValue } from './engine/marshal.ts';
import type { LogTags } from './log.ts';
import { fields, type LuaFields, list, number, text } from './lua_values.ts';
import { type NamedCapabilitiesContext, namedCapabilities } from './named_capabilities.ts';
import { baseName, nameOf } from './names.ts';
import { sameObject } from './references.ts';
import type { RestartChoices } from './restart_choices.ts';
import type { Task, TaskRequest } from './task.ts';
import type { Starter, Tasks } from './tasks.ts';

export interface ScriptTasksContext extends NamedCapabilitiesContext {
  readonly tasks: Tasks;
  readonly starter: Starter;
  /** Functions as capabilities are evaluated at each start of the task, not when the script starts it. */
  readonly lateFunctions: boolean;
  /** What the command line says of restart policies. */
  readonly restarts: RestartChoices;
  readonly tags: LogTags;
  /** L4.Env. */
  readonly env: ReadonlyMap<string, Capability>;
}

export class ScriptTasks {
  readonly #context: ScriptTasksContext;
  /** Tasks that Lua has waited for or killed: nothing is left of them but their name. */
  readonly #reaped = new WeakSet<Task>();

  constructor(context: ScriptTasksContext) {
    this.#context = context;
  }

  /** The task's id, no failure, and whether Lua has to keep the task's functions. */
  async start(launch: LuaFields): Promise<LuaValue[]> {
    const { starter, lateFunctions, references } = this.#context;
    const request = this.#request(launch);
    const task = await starter.start(request);
    if (lateFunctions) {
      // A launch lives as long as the lab, and what it gives to its tasks with it.
      for (const { client } of request.capabilities) if (client) references.adopt(client as Capability);
    }
    // Lua keeps the functions of what can be started again.
    const again = lateFunctions || task.restarts !== undefined;
    return [task.id, undefined, again && list(launch.functions).length > 0];
  }

  #request(launch: LuaFields): TaskRequest {
    const { references, tags, log, env, restarts } = this.#context;
    const capabilities = namedCapabilities(this.#context, launch.capabilities);
    const logCap = references.get(number(launch.log));
    const style = tags.get(logCap) ?? log.style;
    const argv = list(launch.argv).map(text);
    const request: TaskRequest = {
      argv,
      environment: environmentOf(fields(launch.environment)),
      capabilities,
      tag: launch.default_tag === true ? undefined : style.tag,
      // With the log of ned itself a task is still a task of its own.
      name: sameObject(logCap, env.get('log')) ? baseName(argv[0] ?? '') : undefined,
      color: style.color,
      memAlloc:
        launch.mem === undefined ? (env.get('mem_alloc') as Capability) : references.get(number(launch.mem)),
      debug: number(launch.debug),
      functions: list(launch.functions).map(text),
    };
    return { ...request, restart: restarts.of(nameOf(request), text(launch.restart)) };
  }

  /** Undefined once it has been waited for or killed. */
  find(id: string): Task | undefined {
    const task = this.#context.tasks.find(id);
    return task && !this.#reaped.has(task) ? task : undefined;
  }

  /** `killed`, or the exit code of a task that has ended already. */
  kill(id: string): LuaValue {
    const task = this.find(id);
    if (!task) return undefined;
    this.#reaped.add(task);
    if (!task.running) return task.exitCode;
    this.#context.tasks.kill(task);
    return 'killed';
  }

  /** The exit code once the task has ended; undefined if it was killed. */
  async wait(id: string): Promise<LuaValue> {
    const task = this.find(id);
    if (!task) return undefined;
    await task.ended;
    this.#reaped.add(task);
    return task.exitCode;
  }
}

/** Sorted by name: Lua's tables have no order. */
function environmentOf(variables: LuaFields): Record<string, string> {
  return Object.fromEntries(
    Object.entries(variables)
      .map(([name, value]) => [name, text(value)] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}
