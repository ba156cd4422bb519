/** Starts labs, web servers and peers for the benchmarks and reads the processes' CPU time and memory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** The checkout: three levels above dist/test/bench. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const SAMPLE_MS = 50;
/** A process that has not given itself its task's name yet. */
const STARTING = '';
/** Reading the memory map of a process costs it time: only now and then. */
const MEMORY_EVERY = 20;

export interface WebProcess {
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

export async function startWeb(): Promise<WebProcess> {
  const child = spawn(process.execPath, [join(ROOT, 'dist/services/web/main.js')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return { port: Number(line.split(':').at(-1)), pid: child.pid ?? 0, stop: () => end(child) };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

/** CPU seconds of a process so far; undefined when it is gone. */
export function cpuSeconds(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return undefined;
  }
}

/** Proportional set size in bytes: shared pages count once, divided among their users. */
export function memoryBytes(pid: number): number {
  try {
    return (
      Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1] ?? 0) * 1024
    );
  } catch {
    return 0;
  }
}

/** A lab that a benchmark looks at from outside. */
export class BenchLab {
  readonly #base = mkdtempSync('/dev/shm/l4lab-bench-');
  readonly #scratch = mkdtempSync('/tmp/l4lab-bench-');
  readonly child: ChildProcess;
  /** Milliseconds from the start to the first byte on stdout that belongs to the raw task. */
  firstByteMs = 0;
  stdout = '';
  stderr = '';
  readonly #cpu = new Map<string, number>();
  readonly #memory = new Map<string, number>();

  /** `lines` follow the documented start of io and the switch; `port()` makes the capabilities of a client. */
  constructor(port: number, lines: string, extra: readonly string[] = [], wire = 'user') {
    const script = join(this.#scratch, 'bench.cfg');
    writeFileSync(script, `${PREAMBLE}\n${lines}\n`);
    const args = [
      join(ROOT, 'l4lab'),
      'run',
      script,
      '--rom',
      join(ROOT, 'deploy/labs/curl'),
      '--nic',
      `e1000,wire=${wire}`,
      '--host',
      'mirror=10.0.2.100',
      '--guest-forward',
      `10.0.2.100:80=127.0.0.1:${port}`,
      ...extra,
    ];
    const begun = performance.now();
    this.child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, L4LAB_RUN_BASE: this.#base },
    });
    this.child.stdout?.on('data', (data: Buffer) => {
      if (this.firstByteMs === 0) this.firstByteMs = performance.now() - begun;
      this.stdout += data.toString('latin1');
    });
    this.child.stderr?.on('data', (data: Buffer) => {
      this.stderr += data.toString();
    });
  }

  /** Resolves when stdout or stderr shows it. */
  async saw(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.stdout) && !pattern.test(this.stderr)) {
      if (this.child.exitCode !== null)
        throw new Error(`The lab ended without ${pattern}:\n${this.stdout}${this.stderr}`);
      await sleep(SAMPLE_MS);
    }
  }

  /** Samples CPU time and memory until the lab ends; throws when its status is not 0. */
  async done(): Promise<void> {
    for (let n = 0; this.child.exitCode === null && this.child.signalCode === null; n++) {
      this.sample();
      if (n % MEMORY_EVERY === 0) this.#sampleMemory();
      await sleep(SAMPLE_MS);
    }
    if (this.child.exitCode !== 0)
      throw new Error(`The lab failed:\n${this.stdout.slice(-2000)}${this.stderr}`);
  }

  /** CPU seconds by process name; of ended processes the last that was seen. */
  sample(): ReadonlyMap<string, number> {
    for (const { name, pid } of this.processes()) {
      const used = cpuSeconds(pid);
      if (used !== undefined) this.#cpu.set(name, used);
    }
    return this.#cpu;
  }

  /** Largest proportional set size that was seen, by process name, in bytes. */
  memory(): ReadonlyMap<string, number> {
    return this.#memory;
  }

  #sampleMemory(): void {
    for (const { name, pid } of this.processes()) {
      this.#memory.set(name, Math.max(this.#memory.get(name) ?? 0, memoryBytes(pid)));
    }
  }

  /** The lab's processes with their task names; the launcher is `l4lab`. */
  processes(): { name: string; pid: number }[] {
    const tasks = readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry))
      .filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`L4LAB_RUN_DIR=${this.#base}`);
        } catch {
          return false;
        }
      })
      .map((pid) => ({ name: title(Number(pid)), pid: Number(pid) }))
      // Seen again under its name a moment later, with all its CPU time.
      .filter(({ name }) => name !== STARTING);
    return [{ name: 'l4lab', pid: this.child.pid ?? 0 }, ...tasks];
  }

  async stop(): Promise<void> {
    await end(this.child);
    rmSync(this.#base, { recursive: true, force: true });
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

function title(pid: number): string {
  try {
    const name = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')[0]?.trim() ?? '?';
    return name.includes('/') ? STARTING : name;
  } catch {
    return '?';
  }
}

const PREAMBLE = `local L4 = require("L4");
local ld = L4.default_loader;
local vbus_eth = ld:new_channel();
ld:start({ caps = { sigma0 = L4.Env.sigma0; icu = L4.Env.icu; iommu = L4.Env.iommu; ethdevs = vbus_eth:svr(); }, }, "rom/io rom/ixl.vbus");
local vswitch = ld:new_channel();
ld:start({ caps = { vbus = vbus_eth, svr = vswitch:svr(); }, }, "rom/l4vio_switch");
local function port() return { virtnet = vswitch:create(0), etc = L4.Env.rom } end`;

/** Seconds that the system's curl, or else Node's client, takes for the same file over the kernel's loopback. */
export async function loopbackSeconds(port: number, bytes: number): Promise<number> {
  const url = `http://127.0.0.1:${port}/bytes/${bytes}`;
  const node = `const t=performance.now();let n=0;for await(const c of (await fetch('${url}')).body)n+=c.length;console.log((performance.now()-t)/1000)`;
  const [command, args] = existsSync('/usr/bin/curl')
    ? (['/usr/bin/curl', ['-s', '-o', '/dev/null', '-w', '%{time_total}', url]] as const)
    : ([process.execPath, ['--input-type=module', '-e', node]] as const);
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString();
  });
  await once(child, 'close');
  return Number(out);
}
