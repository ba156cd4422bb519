/** For tests that download through a whole lab: a web server, the ned script, and signals to single tasks. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileBlocks } from '../../services/web/site.ts';
import { offline, ROOT, type Run, type TestBed } from './harness.ts';

/** The program of the local web server; arguments: port and host. */
export const WEB_SERVER = join(ROOT, 'dist/services/web/main.js');

/** The local web server, a process of its own: the test's work must not slow it. */
export class WebServer {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(): Promise<WebServer> {
    const child = spawn(process.execPath, [WEB_SERVER], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const [line] = (await once(lines, 'line')) as [string];
    return new WebServer(child, Number(line.split(':').at(-1)));
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    if (this.#child.kill('SIGTERM')) await ended;
  }
}

/** Hash of what the web server has at /bytes/SIZE. */
export async function hashOfFile(bytes: number): Promise<string> {
  const hash = createHash('sha256');
  for await (const block of fileBlocks(bytes)) hash.update(block);
  return hash.digest('hex');
}

export interface LabScript {
  /** Options of l4vio_switch. */
  readonly switchOptions?: string;
  /** Lua: what follows; `port()` gives the caps of a program with a port. */
  readonly body: string;
}

/** Writes the documented script with another ending; returns its path. */
export function labScript(bed: TestBed, { switchOptions = '', body }: LabScript): string {
  return bed.file(
    'net.cfg',
    `local L4 = require("L4");
local ld = L4.default_loader;
local vbus = ld:new_channel();
ld:start({ caps = { sigma0 = L4.Env.sigma0; icu = L4.Env.icu; iommu = L4.Env.iommu; ethdevs = vbus:svr(); }, }, "rom/io rom/ixl.vbus");
local vswitch = ld:new_channel();
ld:start({ caps = { vbus = vbus, svr = vswitch:svr(); }, }, "rom/l4vio_switch ${switchOptions}");
local function port(...) return { virtnet = vswitch:create(0, ...), etc = L4.Env.rom } end
${body}
`,
  );
}

/** Arguments of `l4lab run` behind the script: the rom with ixl.vbus and resolv.conf. */
export const ROM: readonly string[] = ['--rom', join(ROOT, 'deploy/labs/curl')];

/** A running download of /bytes/SIZE whose bytes come on the launcher's stdout. */
export class Download {
  readonly run: Run;
  readonly #bed: TestBed;
  readonly #hash = createHash('sha256');
  #bytes = 0;
  #waiting: { readonly bytes: number; readonly resolve: () => void } | undefined;

  /** `arguments`: more of `l4lab run`. With `awaits`, curl is started when the test has made a file of that name. */
  constructor(
    bed: TestBed,
    port: number,
    size: number,
    { awaits, ...options }: { switchOptions?: string; arguments?: readonly string[]; awaits?: string } = {},
  ) {
    const before =
      awaits === undefined ? '' : `local c = port() while not io.open("rom/${awaits}") do L4.msleep(20) end `;
    const caps = awaits === undefined ? 'port()' : 'c';
    const script = labScript(bed, {
      ...options,
      body: `${before}ld:start({ caps = ${caps} }, "rom/curl -s -S http://mirror/bytes/${size}", { IFCONFIG_IP4_vn0 = "dhcp" })`,
    });
    const ending = ['--wait-for', 'curl', '--raw', 'curl', ...(options.arguments ?? [])];
    this.#bed = bed;
    this.run = bed.l4lab(['run', script, ...ROM, ...offline(port, 'mirror'), ...ending]);
    this.run.child.stdout?.on('data', (data: Buffer) => {
      this.#bytes += data.length;
      this.#hash.update(data);
      if (this.#waiting && this.#bytes >= this.#waiting.bytes) this.#waiting.resolve();
    });
    void this.run.exit.then(() => this.#waiting?.resolve());
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Takes no more bytes, and curl waits, until `reached` or `end`. */
  pause(): void {
    this.run.child.stdout?.pause();
  }

  /** Resolves when so many bytes have come; rejects when the run ends before. */
  async reached(bytes: number): Promise<void> {
    this.run.child.stdout?.resume();
    if (this.#bytes < bytes) {
      await new Promise<void>((resolve) => {
        this.#waiting = { bytes, resolve };
      });
    }
    if (this.#bytes < bytes) throw new Error(`ended after ${this.#bytes} bytes:\n${this.run.stderr}`);
  }

  /** Sends a signal to the one process of a task. */
  signal(task: string, signal: NodeJS.Signals): void {
    try {
      signalTask(this.#bed, task, signal);
    } catch (err) {
      throw new Error(`${(err as Error).message}:\n${this.run.stderr}`);
    }
  }

  /** Exit status and hash at the end. */
  async end(): Promise<{ status: number | NodeJS.Signals | null; sha256: string }> {
    this.run.child.stdout?.resume();
    const status = await this.run.exit;
    return { status, sha256: this.#hash.digest('hex') };
  }
}

/** Sends a signal to the one process of a task of this test's labs. */
export function signalTask(bed: TestBed, task: string, signal: NodeJS.Signals): void {
  const pids = bed.processes().filter((pid) => nameOf(pid) === task);
  if (pids.length !== 1) throw new Error(`${pids.length} processes "${task}"`);
  process.kill(pids[0] as number, signal);
}

/** The title that a task gives its process, undefined when it has ended. */
function nameOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return undefined;
  }
}
