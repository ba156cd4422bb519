/**
 * Loading wasmoon, the Lua interpreter of ned and io, fast.
 *
 * V8 would recompile functions of the interpreter that run often, in the background. A configuration runs for some
 * milliseconds, so that work is never paid back: with V8's baseline compiler alone, a process that runs a script takes
 * 60 ms less of processor time, which on two cores is time that the rest of the lab waits for.
 */
import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';

type Wasmoon = typeof import('wasmoon');

/** Must be called before anything else in the process compiles WebAssembly. */
export function loadWasmoon(): Wasmoon {
  setFlagsFromString('--liftoff-only');
  // A CommonJS bundle; `import` would scan its 150 KB for exports, which takes 20 ms.
  return createRequire(import.meta.url)('wasmoon') as Wasmoon;
}
