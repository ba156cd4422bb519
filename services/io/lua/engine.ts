/**
 * Runs configuration files in one Lua state.
 *
 * Lua is 5.4 (wasmoon); L4Re has 5.5. Libraries: base, package, string, debug, table, as in Io.
 */
import type { LuaEngine, LuaMultiReturn } from 'wasmoon';
import { loadWasmoon } from '#common/lua/wasmoon';
import type { Configuration } from './configuration.ts';
import { LIBRARY } from './library/index.ts';
import type { LuaValue } from './values.ts';

const { LuaFactory, LuaLibraries, LuaMultiReturn: MultiReturn } = loadWasmoon();

const LIBRARIES = [
  LuaLibraries.Base,
  LuaLibraries.Package,
  LuaLibraries.String,
  LuaLibraries.Debug,
  LuaLibraries.Table,
];

/** A configuration has no business with more; beyond it Lua reports "not enough memory". */
const MAX_MEMORY = 64 * 2 ** 20;
/** A file that runs longer is stopped. */
const TIME_LIMIT_MS = 5000;

/** How running one file ended. */
export interface Outcome {
  readonly kind: 'ok' | 'syntax' | 'error' | 'memory';
  /** With file and line, except for `ok`. */
  readonly message: string;
  /** Lua's stack traceback of an error, for verbose runs. */
  readonly trace: string;
}

export interface EngineOptions {
  /** Milliseconds that one file may run; default 5000. */
  timeLimitMs?: number;
  /** Milliseconds of a clock that never steps; replaced in tests. */
  now?: () => number;
}

/** Starts an interpreter: half of Io's work before the first line of a file runs, so it is started early. */
export async function startLua(): Promise<LuaEngine> {
  const engine = await new LuaFactory().createEngine({
    openStandardLibs: false,
    injectObjects: false,
    enableProxy: false,
    traceAllocations: true,
  });
  for (const library of LIBRARIES) engine.global.loadLibrary(library);
  engine.global.setMemoryMax(MAX_MEMORY);
  return engine;
}

export class ConfigEngine {
  readonly #engine: LuaEngine;
  readonly #run: (source: string, name: string) => void;
  readonly #state: { outcome: Outcome; trace: string; deadline: number };
  readonly #options: Required<EngineOptions>;

  /** @param engine an interpreter of `startLua` that nobody else uses */
  constructor(engine: LuaEngine, configuration: Configuration, options: EngineOptions = {}) {
    this.#engine = engine;
    this.#options = { timeLimitMs: TIME_LIMIT_MS, now: () => performance.now(), ...options };
    this.#state = { outcome: { kind: 'ok', message: '', trace: '' }, trace: '', deadline: 0 };
    engine.global.set('__host', (operation: string, where: string, ...args: (LuaValue | null)[]) => {
      try {
        // Lua's nil arrives as null, and null would go back as something that is true.
        const values = args.map((value) => value ?? undefined);
        const own = this.#own(operation, values);
        return multiple(true, ...(own === undefined ? configuration.call(operation, where, values) : [own]));
      } catch (error) {
        return multiple(false, (error as Error).message);
      }
    });
    engine.global.loadString(LIBRARY, '=Io');
    this.#run = engine.global.runSync()[0] as (source: string, name: string) => void;
  }

  /** @param name path of the file as messages show it */
  run(source: string, name: string): Outcome {
    if (source.includes('\0'))
      return { kind: 'syntax', message: `${name}:1: the file is not text`, trace: '' };
    this.#state.deadline = this.#options.now() + this.#options.timeLimitMs;
    this.#state.trace = '';
    try {
      this.#run(source, name);
    } catch (error) {
      // Lua could not even build the message.
      return { kind: 'memory', message: `${name}: ${(error as Error).message}`, trace: '' };
    }
    const { kind, message } = this.#state.outcome;
    if (message.includes('not enough memory')) return { kind: 'memory', message, trace: '' };
    return { kind, message, trace: this.#state.trace };
  }

  close(): void {
    this.#engine.global.close();
  }

  /** Operations about running the file itself. */
  #own(operation: string, args: readonly LuaValue[]): LuaValue {
    switch (operation) {
      case 'in_time':
        if (this.#options.now() > this.#state.deadline) throw new Error('late');
        return true;
      case 'time_limit':
        return String(this.#options.timeLimitMs / 1000);
      case 'trace':
        this.#state.trace = String(args[0]);
        return true;
      case 'outcome':
        this.#state.outcome = { kind: args[0] as Outcome['kind'], message: String(args[1]), trace: '' };
        return true;
      default:
        return undefined;
    }
  }
}

/** Several values for Lua. */
function multiple(...values: LuaValue[]): LuaMultiReturn {
  return MultiReturn.from(values) as LuaMultiReturn;
}
