/**
 * A script as the main thread sees it: the operations that the L4 module calls in the interpreter, and what becomes of
 * the script once it has run.
 *
 * Lua knows capabilities by numbers (references.ts), tasks by ids. Here each operation reads its arguments and is
 * done, or handed to the part that can do it (script_*.ts, evaluation.ts); what it throws becomes the error table of the
 * script (l4re-facts.md 1.5).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Capability } from '#common/ipc/capability';
import { errnoText, L4Error } from '#common/ipc/errors';
import type { CommandServer } from './command.ts';
import type { LuaValue } from './engine/marshal.ts';
import { CurrentEvaluation, type Evaluation } from './evaluation.ts';
import type { Rehearsal } from './external/rehearsal.ts';
import { fields, number, text } from './lua_values.ts';
import { ScriptCapabilities, type ScriptCapabilitiesContext } from './script_capabilities.ts';
import { ScriptCreation, type ScriptCreationContext } from './script_creation.ts';
import type { ScriptFiles } from './script_files.ts';
import { ScriptTasks, type ScriptTasksContext } from './script_tasks.ts';

export interface ScriptContext extends ScriptCapabilitiesContext, ScriptCreationContext, ScriptTasksContext {
  readonly files: ScriptFiles;
  readonly commands: CommandServer;
  readonly arch: string;
  readonly nextEvent: () => Promise<LuaValue>;
  readonly onServe: () => void;
  readonly onScriptEnded: (failure: string | undefined) => void;
  /** Answers for what the script starts, which does not run; undefined: it does. */
  readonly rehearsal: Rehearsal | undefined;
}

type Args = readonly LuaValue[];

const MAX_DELAY_MS = 2 ** 31 - 1;

export class Script {
  readonly #context: ScriptContext;
  readonly #evaluation: CurrentEvaluation;
  readonly #capabilities: ScriptCapabilities;
  readonly #creation: ScriptCreation;
  readonly #tasks: ScriptTasks;
  /** Commands or exit handlers can start tasks when the script has ended. */
  #goesOn = false;

  constructor(context: ScriptContext) {
    this.#context = context;
    this.#evaluation = new CurrentEvaluation(context);
    this.#capabilities = new ScriptCapabilities(context, this.#evaluation);
    this.#creation = new ScriptCreation(context, this.#evaluation);
    this.#tasks = new ScriptTasks(context);
  }

  /** Performs one operation; the values that Lua gets. Throws L4Error. */
  async perform(operation: string, args: Args): Promise<LuaValue[]> {
    const method = this.#operations[operation];
    if (!method) throw new L4Error('ENOSYS', `ned has no operation ${operation}`);
    const result = this.#context.rehearsal?.answer(operation, args) ?? (await method(args));
    return result === undefined ? [] : Array.isArray(result) ? result : [result];
  }

  /** The event that makes Lua evaluate; everything that it does until `prepared` belongs to it. */
  evaluate(evaluation: Evaluation): LuaValue {
    return this.#evaluation.begin(evaluation);
  }

  readonly #operations: Record<string, (args: Args) => LuaValue | Promise<LuaValue>> = {
    info: () => ({
      kip: 'L4 Microkernel interface of l4lab',
      arch: this.#context.arch,
      platform: 'pc',
      late_functions: this.#context.lateFunctions,
    }),
    errno_text: ([errno]) => errnoText(number(errno)),
    sleep: async ([milliseconds]) => {
      await sleepAnyTime(number(milliseconds));
      return [];
    },

    // Files and streams.
    write: async ([fd, data]) => {
      const stream = number(fd) === 2 ? 'stderr' : 'stdout';
      await this.#context.log.write(stream, data instanceof Uint8Array ? data : text(data));
      return [];
    },
    read_file: ([path]) => this.#context.files.read(text(path)),
    read_script: ([path]) =>
      path === undefined ? this.#context.files.readStdin('a') : this.#context.files.readScript(text(path)),
    read_stdin: ([format]) =>
      this.#context.files.readStdin(typeof format === 'string' ? format : number(format)),

    // Capabilities.
    env: () => {
      const { env, references } = this.#context;
      return Object.fromEntries([...env].map(([name, cap]) => [name, references.handleByAdopting(cap)]));
    },
    release: ([handle]) => {
      this.#context.references.drop(number(handle));
      return [];
    },
    interfaces: async ([handle, name, where]) => [
      await this.#capabilities.interfaces(this.#cap(handle), text(name), text(where)),
    ],
    query: ([handle, name]) => this.#capabilities.query(this.#cap(handle), text(name)),
    register: async ([handle, name, value, rights]) => {
      const namespace = this.#cap(handle);
      const capability =
        value === undefined ? null : this.#context.references.narrowed(number(value), number(rights));
      await this.#capabilities.register(namespace, text(name), capability);
      return true;
    },
    create: ([handle, proto, args, where]) =>
      this.#creation.create(this.#cap(handle), number(proto), args, text(where)),

    // Tasks.
    start: ([launch]) => this.#tasks.start(fields(launch)),
    task_release: ([id]) => {
      this.#context.tasks.release(text(id));
      return [];
    },
    task_state: ([id]) => this.#tasks.find(text(id))?.state,
    task_exit_code: ([id]) => this.#tasks.find(text(id))?.exitCode,
    task_kill: ([id]) => this.#tasks.kill(text(id)),
    task_wait: ([id]) => this.#tasks.wait(text(id)),
    task_on_exit: ([id]) => {
      this.#goesOn = true;
      const task = this.#context.tasks.find(text(id));
      return [!task?.running, task?.exitCode];
    },

    // The life of the script: it is loaded, ends, and takes events in its server loop.
    loading: ([script]) => {
      this.#context.log.say(`Ned: loading file: '${typeof script === 'string' ? script : '(stdin)'}'`);
      return [];
    },
    script_ended: ([failure]) => {
      this.#context.onScriptEnded(typeof failure === 'string' ? failure : undefined);
      return [];
    },
    serve: async ([handle, name]) => {
      if (handle !== undefined) await this.#serveCommands(this.#cap(handle), text(name));
      if (!this.#goesOn) {
        for (const sentence of this.#context.channels.buryOrphans()) this.#context.log.warn(sentence);
      }
      this.#context.onServe();
      return true;
    },
    next_event: () => this.#context.nextEvent(),
    prepared: async ([capabilities, failure]) => {
      await this.#evaluation.end(capabilities, failure);
      return [];
    },
    command_done: ([id, errno, result]) => {
      this.#context.commands.done(number(id), number(errno), text(result));
      return [];
    },
    loop_ended: () => [],
  };

  #cap(handle: LuaValue): Capability {
    return this.#context.references.get(number(handle));
  }

  async #serveCommands(cap: Capability, name: string): Promise<void> {
    const channel = cap.object === 0 ? this.#context.channels.get(cap.gate) : undefined;
    if (!channel)
      throw new L4Error('EINVAL', 'Cannot serve commands as server_loop needs a channel of this script');
    channel.name ??= name || undefined;
    channel.own = true;
    this.#goesOn = true;
    await this.#context.commands.serve(channel.end);
  }
}

/** A timer of Node takes 24 days at most. */
async function sleepAnyTime(milliseconds: number): Promise<void> {
  for (let left = milliseconds; left > 0; left -= MAX_DELAY_MS) await sleep(Math.min(left, MAX_DELAY_MS));
}
