/** A pm2 daemon of a test's own, with a lab in it; everything ends with the test. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { processesWith } from '../../services/cli/processes.ts';
import { PATIENCE_MS, ROOT, type TestBed } from './harness.ts';

const PM2 = join(ROOT, 'node_modules/pm2/bin/pm2');
const LOOK_MS = 100;

/** A process as `pm2 ls` shows it. */
export interface App {
  readonly name: string;
  /** "online", "stopped", "errored", "waiting restart". */
  readonly status: string;
  readonly restarts: number;
  readonly exitCode: number | undefined;
  readonly pid: number;
}

export class Pm2Bed implements AsyncDisposable {
  readonly bed: TestBed;
  /** Short: pm2's sockets are in it. */
  readonly home = mkdtempSync('/tmp/p2-');
  static readonly #open = new Set<Pm2Bed>();

  /** Several daemons may share one bed, that is one run base. */
  constructor(bed: TestBed) {
    this.bed = bed;
    Pm2Bed.#open.add(this);
    // Without it the first start asks the internet for a newer version.
    writeFileSync(join(this.home, 'touch'), '');
  }

  get #env(): Record<string, string | undefined> {
    return { PATH: process.env.PATH, HOME: this.home, PM2_HOME: this.home, L4LAB_RUN_BASE: this.bed.base };
  }

  /** Runs one command of pm2 to its end. Rejects with its output when it fails. */
  async pm2(...args: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(process.execPath, [PM2, ...args, '--no-color'], {
      cwd: this.bed.scratch,
      env: this.#env as NodeJS.ProcessEnv,
      timeout: PATIENCE_MS,
    });
    return stdout;
  }

  /** All apps, in the order of their ids. */
  async apps(): Promise<App[]> {
    const text = await this.pm2('jlist');
    const list = JSON.parse(/^\[.*\]$/m.exec(text)?.[0] ?? '') as {
      name: string;
      pid: number;
      pm2_env: { status: string; restart_time: number; exit_code?: number };
    }[];
    return list.map(({ name, pid, pm2_env: { status, restart_time, exit_code } }) => {
      return { name, pid, status, restarts: restart_time, exitCode: exit_code };
    });
  }

  /** What the instances of an app have printed. */
  log(app: string, stream: 'out' | 'error' = 'out'): string {
    const path = join(this.home, 'logs', `${app}-${stream}.log`);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** Looks again and again until there is a value. Rejects with all logs when it takes too long. */
  async until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
    const giveUp = performance.now() + PATIENCE_MS;
    for (;;) {
      const value = await look();
      if (value !== undefined) return value;
      if (performance.now() > giveUp)
        throw new Error(`${what} never came:\n${this.log('ned')}${this.#daemonLog()}`);
      await sleep(LOOK_MS);
    }
  }

  #daemonLog(): string {
    return readFileSync(join(this.home, 'pm2.log'), 'utf8');
  }

  /** Pids of the daemon and of everything that it has started. */
  processes(): number[] {
    return processesWith(`PM2_HOME=${this.home}`);
  }

  /** Sockets and pid files in pm2's directory. */
  sockets(): string[] {
    return (readdirSync(this.home, { recursive: true }) as string[]).filter((name) =>
      /\.(sock|pid)$/.test(name),
    );
  }

  /** Ends what a test that failed or took too long has left. */
  static async endAll(): Promise<void> {
    for (const daemon of Pm2Bed.#open) await daemon[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Pm2Bed.#open.delete(this);
    spawnSync(process.execPath, [PM2, 'kill'], { env: this.#env as NodeJS.ProcessEnv, timeout: 120_000 });
    for (const pid of this.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended meanwhile.
      }
    }
    rmSync(this.home, { recursive: true, force: true });
  }
}
