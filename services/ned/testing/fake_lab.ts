/** ned with its real interpreter thread and capabilities, but tasks that are functions of the test. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { type Capability, createGate, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import type { LogRecord } from '#common/obs/log_record';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { randomName } from '#common/shm/run_dir';
import { Files } from '#common/task/files';
import { testRunDir } from '#common/testing/run_dir';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import { Lab } from '../../../proto/gen/services.js';
import { startInterpreter } from '../engine/thread.ts';
import type { LoadBackend, StartOptions, TaskEnd, TaskProcess } from '../loader.ts';
import { Ned } from '../ned.ts';
import { parseOptions } from '../options.ts';

/** What a fake program sees. */
export interface FakeTask {
  readonly record: m.ILaunchRecord & { task: string };
  readonly ipc: Ipc;
  readonly print: (text: string) => void;
  /** Aborted by SIGTERM and SIGKILL. */
  readonly signal: AbortSignal;
  client(name: string): Capability;
  server(name: string): ServerEnd;
}

export type FakeProgram = (task: FakeTask) => Promise<number> | number;

class FakeBackend implements LoadBackend {
  readonly #runDir: string;
  readonly #programs: Record<string, FakeProgram>;

  constructor(runDir: string, programs: Record<string, FakeProgram>) {
    this.#runDir = runDir;
    this.#programs = programs;
  }

  start(record: m.ILaunchRecord & { task: string }, _options: StartOptions): TaskProcess {
    const stdout = new PassThrough();
    const stderr = new PassThrough();
    const killed = new AbortController();
    const ipc = new Ipc({ runDir: this.#runDir, task: record.task });
    const find = (name: string) => record.capabilities?.find((cap) => cap.name === name);
    const task: FakeTask = {
      record,
      ipc,
      print: (text) => void stdout.write(text),
      signal: killed.signal,
      client: (name) => find(name)?.client as Capability,
      server: (name) => find(name)?.server as ServerEnd,
    };
    const path = record.argv?.[0] ?? '';
    const program = this.#programs[path.slice(path.lastIndexOf('/') + 1)] ?? (() => 70);
    const death = new Promise<TaskEnd>((resolve) => {
      killed.signal.addEventListener('abort', () => resolve({ status: 137, signal: 'SIGKILL' }));
    });
    const life = (async () => ({ status: await program(task), signal: undefined }))();
    const ended = Promise.race([life, death]).then((end) => {
      ipc.close();
      stdout.end();
      stderr.end();
      return end;
    });
    return { pid: 4711, stdout, stderr, ended, kill: () => killed.abort() };
  }
}

/** Waits until a task is to end. */
export function untilEnded(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

export class FakeLab implements AsyncDisposable {
  /** Everything that came to the log. */
  readonly records: LogRecord[] = [];
  readonly status: Promise<number>;
  readonly ipc: Ipc;
  readonly runDir: string;
  readonly lab: Capability;
  readonly #stop = new AbortController();
  readonly #cleanUp: () => void;

  /** Starts ned with files for its rom; `words` is its command line. */
  constructor(files: Record<string, string>, programs: Record<string, FakeProgram>, ...words: string[]) {
    const dir = testRunDir();
    this.runDir = dir.path;
    const rom = mkdtempSync(join(tmpdir(), 'l4lab-rom-'));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(rom, name), text);
    const lab = createGate();
    this.lab = rootCapability(lab);
    this.ipc = new Ipc({ runDir: dir.path, task: randomName() });
    const arena = new Arena(16 * 2 ** 20);
    const memories = new SharedMemories(dir.path, arena);
    const task = randomName();
    const nedIpc = new Ipc({ runDir: dir.path, task });
    this.#cleanUp = () => {
      this.ipc.close();
      nedIpc.close();
      memories.close();
      dir[Symbol.dispose]();
      rmSync(rom, { recursive: true, force: true });
    };
    const options = parseOptions('ned', words);
    const ned = new Ned(
      {
        name: 'ned',
        task,
        argv: ['ned', ...words],
        environment: new Map([['L4LAB_ROM', rom], ...this.variables()]),
        capNames: ['lab'],
        caps: new Map(),
        serverEnds: new Map([['lab', lab]]),
        runDir: dir.path,
        ipc: nedIpc,
        arena,
        memories,
        doorbells: new Doorbells(dir.path),
        parent: undefined,
        memAlloc: undefined,
        external: false,
        files: new Files(nedIpc, new Map()),
        signal: this.#stop.signal,
        stdout: { write: async (data) => void this.records.push(JSON.parse(String(data))) },
        stderr: { write: async () => {} },
      },
      options,
      startInterpreter(options),
      new FakeBackend(dir.path, programs),
    );
    this.status = ned.run();
  }

  /** Further variables of ned. */
  protected variables(): [string, string][] {
    return [];
  }

  /** The lines of one tag, or of all, as `text`. */
  lines(tag?: string): string[] {
    const wanted = this.records.filter(
      (record) => !record.event && (tag === undefined || record.tag === tag),
    );
    return wanted.map(({ text }) => text);
  }

  get control() {
    return this.ipc.client(Lab, this.lab);
  }

  /** As Ctrl-C does it. */
  stop(): Promise<number> {
    this.#stop.abort();
    return this.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#cleanUp();
  }
}
