/** A world without processes for the interpreter: what a script does is written down. */
import { errnoText, L4_ERRNO, type L4ErrorName } from '#common/ipc/errors';
import { Engine, type Host } from '../engine/engine.ts';
import type { LuaValue } from '../engine/marshal.ts';

export type Operation = (args: LuaValue[]) => LuaValue[];

/** A failure as operations return it. */
export function failure(name: L4ErrorName, message: string): LuaValue[] {
  return [undefined, { errno: L4_ERRNO[name], code: `L4_${name}`, message }];
}

/** Numbers of the capabilities in L4.Env. */
export const ENV = {
  rom: 1,
  factory: 2,
  mem_alloc: 3,
  log: 4,
  sigma0: 5,
  icu: 6,
  scheduler: 7,
  rm: 8,
  parent: 9,
};

export class FakeHost implements Host {
  /** Standard output and error of the script, as one text. */
  output = '';
  /** All operations but the constant ones, with their arguments. */
  readonly calls: { operation: string; args: LuaValue[] }[] = [];
  readonly files = new Map<string, string>();
  /** What Meta says of each capability; default: a factory. */
  services: (handle: number) => LuaValue[] = () => [['l4lab.Factory']];
  readonly events: LuaValue[] = [];
  readonly #overrides: Record<string, Operation>;
  #next = 100;

  constructor(overrides: Record<string, Operation> = {}) {
    this.#overrides = overrides;
  }

  call(operation: string, args: LuaValue[]): LuaValue[] {
    if (operation === 'write') {
      this.output +=
        args[1] instanceof Uint8Array ? Buffer.from(args[1]).toString('latin1') : String(args[1]);
      return [];
    }
    if (operation === 'errno_text') return [errnoText(Number(args[0]))];
    if (operation === 'info') return [{ kip: 'kip', arch: 'amd64', platform: 'pc' }];
    if (operation === 'env') return [{ ...ENV }];
    this.calls.push({ operation, args });
    return this.#overrides[operation]?.(args) ?? this.#default(operation, args);
  }

  /** Arguments of every call of one operation. */
  argsOf(operation: string): LuaValue[][] {
    return this.calls.filter((call) => call.operation === operation).map(({ args }) => args);
  }

  #default(operation: string, args: LuaValue[]): LuaValue[] {
    switch (operation) {
      case 'create':
      case 'query':
        return [this.#next++];
      case 'start':
        return [`task-${this.#next++}`];
      case 'interfaces':
        return this.services(Number(args[0]));
      case 'read_file': {
        const text = this.files.get(String(args[0]));
        return text === undefined ? failure('ENOENT', 'no such file') : [Buffer.from(text)];
      }
      case 'next_event':
        return [this.events.shift()];
      case 'register':
      case 'serve':
        return [true];
      default:
        return [];
    }
  }
}

/** Runs a script as `rom/test.cfg`; what it printed, what it asked for, and its error. */
export async function runScript(
  source: string,
  host = new FakeHost(),
): Promise<{ host: FakeHost; output: string; error: string | undefined; engine: Engine }> {
  const engine = await Engine.create(host);
  const preamble = 'local L4 = require("L4"); local ld = L4.default_loader; ';
  const error = engine.runFile('rom/test.cfg', Buffer.from(preamble + source), []);
  return { host, output: host.output, error, engine };
}
