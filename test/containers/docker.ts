/** Docker for the tests: is there an engine, the image, one test's containers and what is left of them. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ENGINE = fileURLToPath(new URL('./engine.mjs', import.meta.url));
/**
 * The image under test. It stays after the tests, as its layers make the next build quick. Each checkout has its own:
 * compose makes containers again whose image has changed.
 */
export const IMAGE =
  process.env.L4LAB_TEST_IMAGE ?? `l4lab:test-${createHash('sha256').update(ROOT).digest('hex').slice(0, 8)}`;
export const BASE = 'node:22-bookworm-slim';

/**
 * Ends what hangs, in milliseconds; nothing is slow enough to come near. On two cores with forty others that want
 * them the slowest test takes two minutes.
 */
export const LIMIT = { wait: 240_000, test: 300_000, build: 1_200_000 } as const;

/** What every component gets: no root, no capability, no new privilege, nothing to write but a tmpfs. */
export const CONFINED = [
  '--read-only',
  '--cap-drop',
  'ALL',
  '--security-opt',
  'no-new-privileges',
  '--network',
  'none',
];

export interface Ended {
  readonly status: number | NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  /** Beside the environment of the tests. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program to its end. */
export async function run(
  command: string,
  args: readonly string[],
  { cwd = ROOT, env = {} }: RunOptions = {},
): Promise<Ended> {
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (data: Buffer) => stdout.push(data));
  child.stderr.on('data', (data: Buffer) => stderr.push(data));
  const [code, signal] = await once(child, 'close');
  const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString('utf8');
  return { status: signal ?? code, stdout: text(stdout), stderr: text(stderr) };
}

/** Runs `docker` to its end, whatever its status is. */
export async function docker(...args: string[]): Promise<Ended> {
  return run('docker', args);
}

/** The same for what must succeed; returns stdout. */
export async function dockerOk(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await docker(...args);
  if (status !== 0) throw new Error(`docker ${args.join(' ')} ended with status ${status}:\n${stderr}`);
  return stdout.trim();
}

/**
 * Why containers cannot be tested here, undefined if they can. With L4LAB_CONTAINERS=required, as in CI,
 * they always are: without an engine the tests then fail instead of being skipped.
 */
export async function whyNoContainers(): Promise<string | undefined> {
  if (process.env.L4LAB_CONTAINERS === 'required') return undefined;
  const { status, stderr } = await run(process.execPath, [ENGINE, 'check']);
  if (status === 0) return undefined;
  return `${stderr.trim().replace(/^engine: /, '')}; node test/containers/engine.mjs start`;
}

/** Why `docker compose` cannot be used; undefined when it can. The old stand-alone program is not enough. */
export async function whyNoCompose(): Promise<string | undefined> {
  const reason = await whyNoContainers();
  if (reason) return reason;
  if ((await docker('compose', 'version')).status === 0) return undefined;
  const problem = 'docker has no compose plugin: node test/containers/engine.mjs start, then eval its env';
  if (process.env.L4LAB_CONTAINERS === 'required') throw new Error(problem);
  return problem;
}

/** `whyNoCompose`, and says so: a run that skips tests must not look like one that passed them. */
export async function skipReason(): Promise<string | undefined> {
  const reason = await whyNoCompose();
  if (reason) console.warn(`test/containers: skipped as ${reason}`);
  return reason;
}

/**
 * Builds the image; layers that are there already are reused. One test file builds at a time: two of them would
 * make two images of nothing, and the later one would change under the tests of the other file.
 */
export async function buildImage(): Promise<void> {
  const build = '"$0" "$1" base && exec docker build --quiet --tag "$2" --file deploy/docker/Dockerfile .';
  const lock = join(tmpdir(), `l4lab-test-${process.getuid?.()}.lock`);
  const { status, stderr } = await run('flock', [lock, 'sh', '-c', build, process.execPath, ENGINE, IMAGE]);
  if (status !== 0) throw new Error(`Cannot build the image ${IMAGE} (${status}):\n${stderr}`);
}

/** One test file's containers: all carry a label, so that leftovers are found and removed. */
export class Containers {
  readonly label = `l4lab-test=${randomBytes(8).toString('hex')}`;

  /** `docker run --rm`, in the foreground. `options` go before the image, `command` behind it. */
  async run(options: readonly string[], command: readonly string[]): Promise<Ended> {
    return docker('run', '--rm', '--label', this.label, ...options, IMAGE, ...command);
  }

  /** `docker run --detach`; returns the container's id. */
  async start(options: readonly string[], command: readonly string[]): Promise<string> {
    return dockerOk('run', '--detach', '--label', this.label, ...options, IMAGE, ...command);
  }

  /** Stops a container by SIGTERM and removes it; returns its exit status, 137 if it had to be killed. */
  async stop(container: string): Promise<number> {
    await dockerOk('stop', '--time', `${LIMIT.wait / 1000}`, container);
    const status = Number(await dockerOk('inspect', '--format', '{{.State.ExitCode}}', container));
    await dockerOk('rm', container);
    return status;
  }

  /** Resolves when the container has printed the text; rejects when it ends without. */
  async saw(container: string, text: string): Promise<void> {
    const logs = spawn('docker', ['logs', '--follow', container], { stdio: ['ignore', 'pipe', 'pipe'] });
    const timer = setTimeout(() => logs.kill(), LIMIT.wait);
    const closed = once(logs, 'close');
    let printed = '';
    try {
      await new Promise<void>((resolve, reject) => {
        const look = (data: Buffer) => {
          printed += data.toString('utf8');
          if (printed.includes(text)) resolve();
        };
        logs.stdout.on('data', look);
        logs.stderr.on('data', look);
        void closed.then(() =>
          reject(new Error(`container ${container} has not printed "${text}":\n${printed}`)),
        );
      });
    } finally {
      clearTimeout(timer);
      logs.kill();
      await closed;
    }
  }

  /** Containers and volumes of this file that still exist. */
  async left(): Promise<string[]> {
    const filter = `label=${this.label}`;
    const [containers, volumes] = await Promise.all([
      dockerOk('ps', '--all', '--quiet', '--filter', filter),
      dockerOk('volume', 'ls', '--quiet', '--filter', filter),
    ]);
    return [...containers.split('\n'), ...volumes.split('\n')].filter(Boolean);
  }

  /** Ends and removes what is left. */
  async close(): Promise<void> {
    const ids = (await dockerOk('ps', '--all', '--quiet', '--filter', `label=${this.label}`)).split('\n');
    if (ids[0]) await dockerOk('rm', '--force', '--volumes', ...ids);
  }
}
