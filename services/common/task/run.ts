/**
 * Turns a launch record into a running task: capabilities, memory, the program, its exit status.
 * What an L4Re task's loader and start-up code do.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { extname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Capability, ServerEnd } from '#common/ipc/capability';
import { errnoText, L4Error } from '#common/ipc/errors';
import { Ipc } from '#common/ipc/ipc';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import type { Program, TaskEnv } from './env.ts';
import { Files } from './files.ts';
import type { Health } from './health.ts';
import { flush, outputTo } from './output.ts';

/** Status of a task that ended by an uncaught error, as on L4Re. */
const EXIT_UNCAUGHT = 70;
const EXIT_NOT_LOADABLE = 1;
/** 128 + SIGTERM. */
const EXIT_TERMINATED = 143;
const CANCELED = 'L4_EIPC_CANCELED';

/** A program file that is no l4lab program. */
class NotLoadableError extends Error {
  override readonly name = 'NotLoadableError';
}

/** Runs the record's program to its end and returns its exit status. Never throws. `health` learns how it does. */
export async function runTask(
  record: m.LaunchRecord,
  runDir: string,
  signal: AbortSignal,
  health?: Health,
): Promise<number> {
  const caps = new Map<string, Capability>();
  const serverEnds = new Map<string, ServerEnd>();
  for (const { name: given, client, server } of record.capabilities) {
    const name = given ?? '';
    if (client) caps.set(name, client as Capability);
    else if (server) serverEnds.set(name, server as ServerEnd);
  }
  const ipc = new Ipc({
    runDir,
    task: record.task,
    onWaiting: (text) => console.error(text),
    nameOf: (gate) => nameOf(record, gate),
    onServing: (gate, serving) => health?.serving(gate, serving),
  });
  const files = new Files(ipc, caps);
  let release = () => ipc.close();
  try {
    const program = await load(record, files);
    const arena = new Arena(program.arenaBytes);
    const memories = new SharedMemories(runDir, arena);
    const doorbells = new Doorbells(runDir);
    release = () => {
      ipc.close();
      doorbells.close();
      memories.close();
    };
    const env: TaskEnv = {
      name: record.name,
      task: record.task,
      argv: record.argv as string[],
      environment: new Map(Object.entries(record.environment)),
      capNames: record.capabilities.map(({ name }) => name ?? ''),
      caps,
      serverEnds,
      runDir,
      ipc,
      arena,
      memories,
      doorbells,
      parent: (record.parent ?? undefined) as Capability | undefined,
      memAlloc: (record.memAlloc ?? undefined) as Capability | undefined,
      external: record.launch !== '',
      health,
      files,
      signal,
      stdout: outputTo(process.stdout),
      stderr: outputTo(process.stderr),
    };
    for (const [name, { gate }] of serverEnds) health?.expectGate(gate, name);
    const status = program.main(env);
    health?.set('start');
    return await status;
  } catch (err) {
    // What a task was waiting for is abandoned when the task is to end: nothing to report.
    if (signal.aborted && err instanceof L4Error && err.code === CANCELED) return EXIT_TERMINATED;
    return reportUncaught(err);
  } finally {
    release();
    await Promise.all([flush(process.stdout), flush(process.stderr)]);
  }
}

/** How messages call a gate: ned, or the name that this task has a capability of it under. */
function nameOf(record: m.LaunchRecord, gate: string): string | undefined {
  if (record.parent?.gate === gate) return 'ned';
  const named = record.capabilities.find((cap) => cap.client?.gate === gate);
  return named && `capability '${named.name}'`;
}

/** Prints an error that nobody caught, as the C++ run-time of L4Re does; returns the exit status. */
export function reportUncaught(err: unknown): number {
  if (err instanceof NotLoadableError) {
    console.error(`FATAL: ${err.message}`);
    return EXIT_NOT_LOADABLE;
  }
  const type = err instanceof L4Error ? 'L4::Runtime_error' : err instanceof Error ? err.name : typeof err;
  console.error(`terminate called after throwing an instance of '${type}'`);
  if (err instanceof L4Error) console.error(`  what: ${errnoText(err.errno)}: ${err.message}`);
  else console.error(`  what: ${err instanceof Error ? describe(err) : String(err)}`);
  return EXIT_UNCAUGHT;
}

/** Message and stack, without the frames of Node itself. */
function describe(err: Error): string {
  const lines = (err.stack ?? err.message).split('\n');
  return lines.filter((line) => !/^ +at .*\(?node:/.test(line)).join('\n');
}

async function load(record: m.LaunchRecord, files: Files): Promise<Program> {
  const path = record.argv[0] ?? '';
  const url = record.program ? builtinUrl(record.program) : await locate(path, files);
  const program = await importModule(path, url);
  if (typeof program.main !== 'function') {
    throw new NotLoadableError(
      `Could not load binary '${path}': ${fileURLToPath(url)} does not export a function main(env)`,
    );
  }
  return program as Program;
}

/** A syntax error is reported with its place, which Node tells nobody but its own checker. */
async function importModule(path: string, url: URL): Promise<Partial<Program>> {
  try {
    return (await import(url.href)) as Partial<Program>;
  } catch (err) {
    if (!(err instanceof SyntaxError)) throw err;
    const file = fileURLToPath(url);
    const { stderr } = spawnSync(process.execPath, ['--check', file], { encoding: 'utf8' });
    const line = /:(\d+)\n/.exec(stderr ?? '')?.[1];
    const place = line === undefined ? file : `${file}:${line}`;
    throw new NotLoadableError(`Could not load binary '${path}': ${place}: ${err.message}`);
  }
}

async function locate(path: string, files: Files): Promise<URL> {
  const info = await files.info(path);
  if (info.builtin) return builtinUrl(info.builtin);
  if (!['.js', '.mjs', '.cjs'].includes(extname(info.path))) {
    throw new NotLoadableError(
      `Could not load binary '${path}': a program is a JavaScript module (.mjs, .js or .cjs) that exports main(env)`,
    );
  }
  return pathToFileURL(info.path);
}

/** services/<name>/main beside us, compiled or not as we are ourselves. */
function builtinUrl(name: string): URL {
  const url = new URL(`../../${name.replaceAll('-', '_')}/main${extname(import.meta.url)}`, import.meta.url);
  if (!/^[a-z0-9_-]+$/.test(name) || !existsSync(url)) {
    throw new NotLoadableError(`Could not load binary '${name}': l4lab has no program of that name`);
  }
  return url;
}
