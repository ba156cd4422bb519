/** A broker and components as processes of a test, in any order, with a web server for the page. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebServer } from './download_lab.ts';
import { offline, PATIENCE_MS, ROOT, type Run, TestBed } from './harness.ts';

const LAB = join(ROOT, 'deploy/labs/curl');
/** Everything but curl. */
export const SERVERS = ['machine', 'io', 'l4vio_switch', 'ixl'] as const;

/** The documented script; each start of curl gets a port of its own. */
export const SCALING = readFileSync(join(LAB, 'curl.cfg'), 'utf8').replace(
  'virtnet = vswitch:create(0)',
  'virtnet = function() return vswitch:create(0) end',
);

export class ExternalLab implements AsyncDisposable {
  readonly bed = new TestBed();
  readonly web: WebServer;
  broker: Run | undefined;
  readonly running = new Map<string, Run>();
  #ending = false;

  readonly #port: number;

  private constructor(web: WebServer, port: number) {
    this.web = web;
    this.#port = port;
    for (const name of ['ixl.vbus', 'resolv.conf'])
      this.bed.file(name, readFileSync(join(LAB, name), 'utf8'));
  }

  /** With a script; its downloads come from a web server of the lab's own, or from a port of this machine. */
  static async start(script = SCALING, port?: number): Promise<ExternalLab> {
    const web = await WebServer.start();
    const lab = new ExternalLab(web, port ?? web.port);
    lab.bed.file('curl.cfg', script);
    return lab;
  }

  /** Starts the broker (again). */
  startBroker(...options: string[]): Run {
    this.broker = this.bed.l4lab([
      'broker',
      join(this.bed.scratch, 'curl.cfg'),
      ...offline(this.#port),
      ...options,
    ]);
    return this.broker;
  }

  /** Starts a component; it is not started again when it ends. */
  component(task: string, env: Record<string, string> = {}): Run {
    const run = this.bed.l4lab(['component', task], { env });
    this.running.set(task, run);
    return run;
  }

  /** Starts components that are started again whenever they end, as container engines do it. */
  supervise(...tasks: string[]): void {
    for (const task of tasks) void this.#keepUp(task);
  }

  async #keepUp(task: string): Promise<void> {
    while (!this.#ending) {
      await this.component(task).exit;
      await sleep(100);
    }
  }

  /** Status and output of `l4lab health`. */
  async health(task: string): Promise<{ status: unknown; text: string }> {
    const { status, run } = await this.bed.done(['health', task]);
    return { status, text: `${run.text}${run.stderr}`.trim() };
  }

  /** Waits until these are ready. */
  async ready(...tasks: string[]): Promise<void> {
    for (const task of tasks) {
      const giveUp = performance.now() + PATIENCE_MS;
      for (let health = await this.health(task); health.status !== 0; health = await this.health(task)) {
        if (performance.now() > giveUp) throw new Error(`${health.text}\n${this.broker?.text}`);
      }
    }
  }

  /** Runs curl once to its end. */
  async curl(): Promise<Run> {
    const run = this.component('curl');
    const status = await run.exit;
    if (status !== 0)
      throw new Error(`curl ended with ${status}:\n${run.text}\n${run.stderr}\n${this.broker?.text}`);
    return run;
  }

  /** State of every task by its name, as `l4lab ps` shows it. */
  async tasks(): Promise<Record<string, string>> {
    const { run } = await this.bed.done(['ps', '--json']);
    const [lab] = JSON.parse(run.text) as [{ tasks: { name: string; state: string; exitCode: number }[] }];
    return Object.fromEntries(
      lab.tasks.map(({ name, state, exitCode }) => [name, state === 'zombie' ? `exit ${exitCode}` : state]),
    );
  }

  async kill(task: string): Promise<void> {
    const run = task === 'broker' ? this.broker : this.running.get(task);
    run?.child.kill('SIGKILL');
    await run?.exit;
  }

  /** Ends everything; what is left over by then. */
  async end(): Promise<{ processes: number[]; files: string[] }> {
    this.#ending = true;
    const runs = [...this.running.values(), ...(this.broker ? [this.broker] : [])];
    for (const run of runs) run.child.kill('SIGTERM');
    await Promise.all(runs.map(({ exit }) => exit));
    return { processes: this.bed.processes(), files: this.bed.files() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.web.close();
    await this.bed.close();
  }
}
