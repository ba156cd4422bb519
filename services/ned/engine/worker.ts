/** First code of the interpreter's thread: statements, the script, then the server loop for ever. */
import { type MessagePort, workerData } from 'node:worker_threads';
import { BlockingHost, type ReplyCounter } from './bridge.ts';
import { Engine, type HostError } from './engine.ts';

/** What the main thread hands over. */
export interface WorkerInput {
  readonly port: MessagePort;
  readonly replies: ReplyCounter;
  readonly statements: readonly string[];
  /** Undefined: the chunk is read from ned's standard input. */
  readonly script: string | undefined;
  readonly args: readonly string[];
}

/** Chunk name of what comes from standard input. */
const STDIN_NAME = '=stdin';

const { port, replies, statements, script, args } = workerData as WorkerInput;
const host = new BlockingHost(port, replies);
const engine = await Engine.create(host);

for (const statement of statements) engine.runStatement(statement);
host.call('loading', [script]);
const [source, problem] = host.call('read_script', [script]) as [
  Uint8Array | undefined,
  HostError | undefined,
];
let failure: string | undefined;
if (source) failure = engine.runFile(script ?? STDIN_NAME, source, args);
else {
  failure = problem?.message ?? 'Cannot load script';
  engine.fail(failure);
}
host.call('script_ended', [failure]);
engine.serve();
host.call('loop_ended', []);
