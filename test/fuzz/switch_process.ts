/** The real switch in a process of its own, as ned would start it, and hostile processes for it. The test is their ned. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { makeRunDir } from '#common/shm/run_dir';
import { NetClient, TestTask } from '#common/testing/net_client';
import { l4lab as m } from '../../proto/gen/messages.js';
import { Factory, Meta } from '../../proto/gen/services.js';

const ROOT = join(import.meta.dirname.replace(/\/dist\/test\/fuzz$/, '/test/fuzz'), '..', '..');

/** The switch's tunnel: whose remote sends nothing, and who may not send. */
export const TUNNEL = {
  vni: 42,
  local: '127.40.0.1',
  remote: '127.40.0.2',
  stranger: '127.40.0.66',
} as const;

/** What a hostile process is told. */
export interface Order {
  readonly runDir: string;
  readonly gate: string;
  /** Proof of the gate, hex. */
  readonly secret: string;
  readonly task: string;
  readonly deed: string;
  /** UDP port of the switch's tunnel. */
  readonly tunnelPort: number;
  /** For `die`: at which of its steps. */
  readonly point?: number;
}

export class SwitchProcess {
  readonly runDir = mkdtempSync('/dev/shm/l4lab-fuzz-');
  readonly process: ChildProcess;
  /** Everything that the switch printed. */
  output = '';
  readonly #gate = createGate();
  readonly #tunnelPort: number;
  readonly #tasks: TestTask[] = [];

  static async start(): Promise<SwitchProcess> {
    return new SwitchProcess(await freePort(TUNNEL.local));
  }

  private constructor(tunnelPort: number) {
    this.#tunnelPort = tunnelPort;
    makeRunDir(this.runDir);
    const record = join(this.runDir, 't', 'switch');
    const { vni, local, remote } = TUNNEL;
    const tunnel = `vni=${vni},local=${local},remote=${remote},port=${tunnelPort}`;
    const bytes = m.LaunchRecord.encode({
      task: randomBytes(16).toString('hex'),
      name: 'l4vio_switch',
      argv: ['l4vio_switch', '-q', '--vxlan', tunnel],
      environment: {},
      capabilities: [{ name: 'svr', server: this.#gate }],
      parentPid: process.pid,
      program: 'l4vio_switch',
    }).finish();
    writeFileSync(record, bytes);
    this.process = spawn(process.execPath, [join(ROOT, 'dist/services/common/task/start.js')], {
      env: { PATH: process.env.PATH, L4LAB_RUN_DIR: this.runDir, L4LAB_RECORD: record },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.process.stdout, this.process.stderr])
      stream?.on('data', (data: Buffer) => {
        this.output += data.toString();
      });
  }

  get alive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** What the switch has open: file descriptors, and mappings of files of the run directory. */
  resources(): { descriptors: number; mappings: number } {
    const proc = `/proc/${this.process.pid}`;
    const maps = readFileSync(`${proc}/maps`, 'utf8').split('\n');
    return {
      descriptors: readdirSync(`${proc}/fd`).length,
      mappings: maps.filter((line) => line.includes(this.runDir)).length,
    };
  }

  get root(): Capability {
    return rootCapability(this.#gate);
  }

  /** A client in this process that behaves. */
  async client(id: string): Promise<NetClient> {
    const task = new TestTask(this.runDir, id);
    this.#tasks.push(task);
    const { object } = await task.ipc
      .client(Factory, this.root)
      .create({ type: 0, arguments: [{ text: 'ds-max=4' }] });
    return await NetClient.open(task, object as Capability);
  }

  /** Starts a hostile process; when it has ended, its ports go, as ned would see to it. */
  async misdeed(
    deed: string,
    point?: number,
  ): Promise<{ status: number | null; signal: NodeJS.Signals | null }> {
    const task = randomBytes(16).toString('hex');
    const secret = Buffer.from(this.#gate.secret).toString('hex');
    const order: Order = {
      runDir: this.runDir,
      gate: this.#gate.gate,
      secret,
      task,
      deed,
      tunnelPort: this.#tunnelPort,
      ...(point !== undefined && { point }),
    };
    const child = spawn(
      process.execPath,
      [join(ROOT, 'dist/test/fuzz/hostile_process.js'), JSON.stringify(order)],
      {
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    );
    const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    await this.#tasks[0]?.ipc.client(Meta, this.root).taskGone({ task });
    return { status, signal };
  }

  async close(): Promise<void> {
    for (const task of this.#tasks) task.close();
    if (this.alive) {
      const exit = once(this.process, 'exit');
      this.process.kill('SIGTERM');
      await exit;
    }
    rmSync(this.runDir, { recursive: true, force: true });
  }
}

/** A UDP port that nobody has at that address. */
async function freePort(address: string): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, address);
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}
