/** Runs the real `l4lab` for a test, in a run base of the test's own, and looks for what it leaves behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** How long tests look for what is bound to come: it only tells a hang from a machine that is busy. */
export const PATIENCE_MS = 120_000;
/** What is said after a second of waiting: on a busy machine anything may take a second. */
const WAITING = /: waiting for a server /;
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const L4LAB = join(ROOT, 'l4lab');

/** A run of the command line, still going on or ended. */
export class Run {
  readonly child: ChildProcess;
  /** Everything on stderr so far. */
  stderr = '';
  #chunks: Buffer[] = [];
  /** It has ended, and everything that it printed is here: the end of a process is often noticed before its last output. */
  #over = false;
  readonly exit: Promise<number | NodeJS.Signals | null>;
  readonly #watchers = new Set<() => void>();

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.on('data', (data: Buffer) => {
      this.#chunks.push(data);
      for (const watcher of this.#watchers) watcher();
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      for (const watcher of this.#watchers) watcher();
    });
    this.exit = once(child, 'close').then(
      ([code, signal]) => (signal ?? code) as number | NodeJS.Signals | null,
    );
    void this.exit.then(() => {
      this.#over = true;
      for (const watcher of this.#watchers) watcher();
    });
  }

  /** Everything on stdout so far. */
  get stdout(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  get text(): string {
    return this.stdout.toString('utf8');
  }

  /** Resolves with the match as soon as stdout or stderr has it; rejects when the run ends without. */
  async saw(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = pattern.exec(this.text) ?? pattern.exec(this.stderr);
        if (found) resolve(found);
        else if (this.#over) {
          reject(new Error(`ended without ${pattern}:\n${this.text}\n${this.stderr}`));
        } else return;
        this.#watchers.delete(look);
      };
      this.#watchers.add(look);
      look();
    });
  }
}

/** One test's world: a run base, scratch files, and whatever was started in it. */
export class TestBed {
  readonly base = mkdtempSync('/dev/shm/l4lab-test-');
  readonly scratch = mkdtempSync('/tmp/l4lab-test-');
  readonly #runs: Run[] = [];

  /** Starts `l4lab` with these arguments; `input` is all of its standard input, `under` a command that starts it. */
  l4lab(
    args: readonly string[],
    options: {
      cwd?: string;
      env?: Record<string, string>;
      input?: string;
      under?: readonly string[];
    } = {},
  ): Run {
    const [program, ...words] = [...(options.under ?? []), process.execPath, L4LAB, ...args] as [string];
    const child = spawn(program, words, {
      cwd: options.cwd ?? this.scratch,
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, L4LAB_RUN_BASE: this.base, ...options.env },
    });
    child.stdin?.end(options.input);
    const run = new Run(child);
    this.#runs.push(run);
    return run;
  }

  /** Runs to the end. */
  async done(
    args: readonly string[],
    options: { cwd?: string } = {},
  ): Promise<{ status: number | NodeJS.Signals | null; run: Run }> {
    const run = this.l4lab(args, options);
    return { status: await run.exit, run };
  }

  /** Writes a file into the scratch directory and returns its path. */
  file(name: string, text: string): string {
    const path = join(this.scratch, name);
    writeFileSync(path, text);
    return path;
  }

  /** Pids of all processes that belong to labs of this test. */
  processes(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`L4LAB_RUN_DIR=${this.base}`);
        } catch {
          return false;
        }
      })
      .map(Number);
  }

  /** Files and directories below the run base, not counting the base. */
  files(): string[] {
    return readdirSync(this.base, { recursive: true }) as string[];
  }

  /** Ends what still runs and removes the test's directories. */
  async close(): Promise<void> {
    for (const run of this.#runs) {
      if (run.child.exitCode === null && run.child.signalCode === null) run.child.kill('SIGTERM');
    }
    await Promise.all(this.#runs.map((run) => run.exit));
    rmSync(this.base, { recursive: true, force: true });
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

/** The lines of a log, without those that tell how busy the machine is. */
export function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '' && !WAITING.test(line));
}

/** The documented lab with its mirror answered by a local web server. */
export function offline(port: number, host = 'ftp.de.debian.org'): string[] {
  return ['--host', `${host}=10.0.2.100`, '--guest-forward', `10.0.2.100:80=127.0.0.1:${port}`];
}
