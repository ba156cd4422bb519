/** Starts the interpreter's thread. */
import { extname } from 'node:path';
import { MessageChannel, Worker } from 'node:worker_threads';
import { type Operations, serveCalls } from './bridge.ts';
import type { HostError } from './engine.ts';
import type { WorkerInput } from './worker.ts';

export type ScriptInput = Pick<WorkerInput, 'statements' | 'script' | 'args'>;

export interface InterpreterThread {
  /** Each operation of the script comes to `operations`; until this is called the script waits. */
  serve(operations: Operations, toHostError: (err: unknown) => HostError): void;
  /** Rejects when the thread died by itself; resolves when it was terminated or ended. */
  readonly ended: Promise<void>;
  /** Ends the thread whatever it does, be it an endless loop. */
  terminate(): Promise<void>;
}

/** Runs a script in a thread of its own; about 90 ms until its first line. */
export function startInterpreter({ statements, script, args }: ScriptInput): InterpreterThread {
  const { port1, port2 } = new MessageChannel();
  const replies = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(code(), {
    eval: isSource,
    workerData: { statements, script, args, port: port2, replies } satisfies WorkerInput,
    transferList: [port2],
  });
  const ended = new Promise<void>((resolve, reject) => {
    worker.once('error', reject);
    worker.once('exit', () => resolve());
  });
  // Whoever is interested learns it from `ended`; until then it must not end the process.
  ended.catch(() => {});
  return {
    ended,
    serve: (operations, toHostError) => serveCalls(port1, replies, operations, toHostError),
    terminate: async () => {
      await worker.terminate();
      port1.close();
    },
  };
}

const isSource = extname(import.meta.url) === '.ts';

/** The thread's first module, compiled or not as we are; sources (unit tests) need a loader that understands them. */
function code(): URL | string {
  const url = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);
  if (!isSource) return url;
  return `import('tsx/esm/api').then(({ register }) => (register(), import(${JSON.stringify(url.href)})));`;
}
