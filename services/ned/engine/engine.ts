/**
 * The Lua interpreter: wasmoon's Lua 5.4 with the libraries that ned has, and the L4 module.
 *
 * Everything that leaves the interpreter goes through one synchronous function, `Host.call`. In ned that
 * blocks the worker thread (bridge.ts); in unit tests it is a plain function. No JavaScript object is ever
 * visible to a script.
 */
// Relative, as tests run this thread from source, where Node does not know that '#common' means source.
import { loadWasmoon } from '../../common/lua/wasmoon.ts';
import { CAPABILITY } from '../lua/capability.lua.ts';
import { CPU_SET } from '../lua/cpu_set.lua.ts';
import { HINTS } from '../lua/hints.lua.ts';
import { LOADER } from '../lua/loader.lua.ts';
import { MODULE } from '../lua/module.lua.ts';
import { RUN } from '../lua/run.lua.ts';
import { SANDBOX } from '../lua/sandbox.lua.ts';
import { START } from '../lua/start.lua.ts';
import { TASK } from '../lua/task.lua.ts';
import { type LuaValue, Marshal } from './marshal.ts';

const { LuaFactory } = loadWasmoon();

/** What a failed operation returns to Lua: `nil` and this. */
export interface HostError {
  /** Positive L4 error number. */
  readonly errno: number;
  readonly code: string;
  readonly message: string;
}

/** The world outside of the interpreter. */
export interface Host {
  /** Performs one operation, blocking; its results. Must not throw: failures are `[undefined, HostError]`. */
  call(operation: string, args: LuaValue[]): LuaValue[];
}

/** In this order, behind the sandbox: each adds to the table `ned` that all of them share. */
const PARTS: readonly (readonly [name: string, text: string])[] = [
  ['capability', CAPABILITY],
  ['cpu_set', CPU_SET],
  ['task', TASK],
  ['start', START],
  ['loader', LOADER],
  ['module', MODULE],
  ['hints', HINTS],
  ['run', RUN],
];

/** Chunk names that start so are ours: no error is ever attributed to them. */
const INTERNAL = '=[ned] ';

export class Engine {
  readonly #marshal: Marshal;
  readonly #L: number;

  private constructor(marshal: Marshal, L: number) {
    this.#marshal = marshal;
    this.#L = L;
  }

  /** Starts an interpreter; about 40 ms. */
  static async create(host: Host): Promise<Engine> {
    const wasm = await new LuaFactory().getLuaModule();
    const marshal = new Marshal(wasm);
    const L = wasm.luaL_newstate();
    wasm.luaL_openlibs(L);
    const engine = new Engine(marshal, L);
    const { api } = marshal;

    // The table `ned`: stays at the bottom of the stack for the parts.
    api._lua_createtable(L, 0, 8);
    engine.#setFunction('host', (state) => {
      const [operation, ...args] = marshal.arguments(state);
      const results = host.call(String(operation), args);
      for (const result of results) marshal.push(state, result);
      return results.length;
    });
    engine.#setFunction('new_userdata', (state) => {
      api._lua_newuserdatauv(state, 0, 1);
      return 1;
    });
    const size = Buffer.byteLength(SANDBOX);
    if (wasm.luaL_loadbufferx(L, SANDBOX, size, `${INTERNAL}sandbox`, 't') !== 0) engine.#throw();
    wasm.lua_pushvalue(L, 1);
    if (wasm.lua_pcallk(L, 1, 0, 0, 0, null) !== 0) engine.#throw();
    engine.#call = (name, args) => {
      wasm.lua_getfield(L, 1, name);
      for (const arg of args) marshal.push(L, arg);
      if (wasm.lua_pcallk(L, args.length, 1, 0, 0, null) !== 0) engine.#throw();
      const result = marshal.get(L, -1);
      api._lua_settop(L, 1);
      return result;
    };
    for (const part of PARTS) engine.#call('run_part', [...part]);
    return engine;
  }

  #call: (name: string, args: LuaValue[]) => LuaValue = () => undefined;

  /**
   * Runs a script file with `arg` set; its errors are printed as ned does.
   * Returns undefined, or the error's message.
   */
  runFile(name: string, source: Uint8Array, args: readonly string[]): string | undefined {
    return message(this.#call('run_file', [name, source, [...args]]));
  }

  /** Runs one `-e` statement; returns its error's message, if any. */
  runStatement(statement: string): string | undefined {
    return message(this.#call('run_statement', [statement]));
  }

  /** Says what the interpreter says when it cannot even load the script. */
  fail(message: string): void {
    this.#call('report', [message]);
  }

  /** Handles exit handlers and commands until the host ends the loop (`next_event` returns nothing). */
  serve(): void {
    this.#call('serve', []);
  }

  #setFunction(name: string, fn: (L: number) => number): void {
    const { api } = this.#marshal;
    this.#marshal.push(this.#L, name);
    api._lua_pushcclosure(this.#L, api.addFunction(fn, 'ii'), 0);
    api._lua_rawset(this.#L, 1);
  }

  #throw(): never {
    const reason = this.#marshal.get(this.#L, -1);
    throw new Error(`ned's own Lua code failed: ${String(reason)}`);
  }
}

/** The text of an error, if there is one; what is no UTF-8 in it gets replacement characters. */
function message(result: LuaValue): string | undefined {
  if (result === undefined) return undefined;
  return result instanceof Uint8Array ? Buffer.from(result).toString() : String(result);
}
