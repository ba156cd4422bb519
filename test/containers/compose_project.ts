/** One project of docker compose: a ned script, the file that `l4lab compose` makes of it, its containers. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileBlocks } from '../../services/web/site.ts';
import { docker, dockerOk, type Ended, IMAGE, LIMIT, ROOT, run } from './docker.ts';

/** Hash of what the web servers have at /bytes/SIZE. */
export function hashOfFile(size: number): string {
  const hash = createHash('sha256');
  for (const block of fileBlocks(size)) hash.update(block);
  return hash.digest('hex');
}

/**
 * The documented script whose curls download a file and leave it in /tmp. A receiver whose peer is gone without a word
 * asks for it; one whose peer is slow goes on, however slow.
 */
function downloadScript(size: number): string {
  return `local L4 = require("L4");
local ld = L4.default_loader;
local vbus = ld:new_channel();
ld:start({ caps = { sigma0 = L4.Env.sigma0; icu = L4.Env.icu; iommu = L4.Env.iommu; ethdevs = vbus:svr(); }, }, "rom/io rom/ixl.vbus");
local vswitch = ld:new_channel();
ld:start({ caps = { vbus = vbus, svr = vswitch:svr(); }, }, "rom/l4vio_switch");
ld:start({ caps = { virtnet = function() return vswitch:create(0) end, etc = L4.Env.rom } },
  "rom/curl -sS --connect-timeout 20 --keepalive-time 2 --keepalive-cnt 4 -o /tmp/file http://mirror/bytes/${size}", { IFCONFIG_IP4_vn0 = "dhcp" });
`;
}

/**
 * A curl that fails is started again by the engine, as users would have it; the hash is printed in the end.
 * `web` is the path of the web server.
 */
function overrides(rate: number, web: string): object {
  const shell =
    "trap 'kill $$child; wait $$child' TERM; l4lab component curl & child=$$!; wait $$child && sha256sum /tmp/file";
  return {
    services: {
      curl: {
        entrypoint: ['sh', '-c', shell],
        command: [],
        restart: 'on-failure',
        tmpfs: ['/run/l4lab:size=64k,mode=1777', '/tmp:size=70m,mode=1777'],
      },
      web: {
        entrypoint: ['node', '/slow_web.mjs', '80', `${rate}`],
        command: [],
        volumes: [`${web}:/slow_web.mjs:ro`],
      },
    },
  };
}

/** Has `l4lab compose` write the file, or removes the directory. */
async function generate(dir: string, args: readonly string[], file: string): Promise<string> {
  const { status, stdout, stderr } = await run(join(ROOT, 'l4lab'), ['compose', ...args], { cwd: dir });
  if (status !== 0) {
    rmSync(dir, { recursive: true });
    throw new Error(stderr);
  }
  writeFileSync(file, stdout);
  return file;
}

export class ComposeProject {
  readonly name = `l4lab-test-${randomBytes(4).toString('hex')}`;
  /** Scratch files; undefined: none. */
  readonly #dir: string | undefined;
  readonly #files: readonly string[];
  readonly #env: Record<string, string>;

  private constructor(dir: string | undefined, files: readonly string[], env: Record<string, string>) {
    this.#dir = dir;
    this.#files = files;
    this.#env = { COMPOSE_PROFILES: 'demo', L4LAB_IMAGE: IMAGE, ...env };
  }

  /** The file of the repository. */
  static committed(env: Record<string, string> = {}): ComposeProject {
    return new ComposeProject(undefined, [join(ROOT, 'docker-compose.yml')], env);
  }

  /** What `l4lab compose` writes for that script of the repository. */
  static async ofScript(script: string): Promise<ComposeProject> {
    const dir = mkdtempSync(join(tmpdir(), 'l4lab-test-'));
    const file = join(dir, 'docker-compose.yml');
    return new ComposeProject(
      dir,
      [await generate(dir, ['--web', 'ftp.de.debian.org', join(ROOT, script)], file)],
      {},
    );
  }

  /** Curls that download `size` bytes each at `rate` bytes a second, and not to the end before the web server may hurry. */
  static async downloads(size: number, rate: number): Promise<ComposeProject> {
    const dir = mkdtempSync(join(tmpdir(), 'l4lab-test-'));
    const web = join(dir, 'slow_web.mjs');
    cpSync(join(import.meta.dirname, 'slow_web.mjs'), web);
    for (const name of ['ixl.vbus', 'resolv.conf'])
      cpSync(join(ROOT, 'deploy/labs/curl', name), join(dir, name));
    writeFileSync(join(dir, 'net.cfg'), downloadScript(size));
    // Read by another user, whatever the umask is.
    for (const name of readdirSync(dir)) chmodSync(join(dir, name), 0o644);
    chmodSync(dir, 0o755);
    const file = await generate(dir, ['--web', 'mirror', 'net.cfg'], join(dir, 'docker-compose.yml'));
    writeFileSync(join(dir, 'override.yml'), JSON.stringify(overrides(rate, web)));
    return new ComposeProject(dir, [file, join(dir, 'override.yml')], {});
  }

  /** `docker compose ...` to its end, whatever its status is. */
  try(...args: string[]): Promise<Ended> {
    const files = this.#files.flatMap((file) => ['--file', file]);
    return run('docker', ['compose', '--project-name', this.name, ...files, ...args], { env: this.#env });
  }

  /** The same for what must succeed; returns stdout. */
  async ok(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.try(...args);
    if (status !== 0) throw new Error(`docker compose ${args.join(' ')} ended with ${status}:\n${stderr}`);
    return stdout.trim();
  }

  /** Ids of all containers of a service. */
  async containers(service: string): Promise<string[]> {
    return (await this.ok('ps', '--all', '--quiet', service)).split('\n').filter(Boolean);
  }

  async container(service: string): Promise<string> {
    const [id] = await this.containers(service);
    if (id === undefined) throw new Error(`${this.name} has no container of ${service}`);
    return id;
  }

  /** What all containers have printed since then, for messages. */
  async logs(since: string): Promise<string> {
    const { stdout, stderr } = await this.try('logs', '--no-color', '--timestamps', '--since', since);
    return stdout + stderr;
  }

  /** State of each container of a service and, once it has one, its health. */
  async states(service: string): Promise<string[]> {
    const format = '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}';
    const ids = await this.containers(service);
    const texts = await Promise.all(ids.map((id) => dockerOk('inspect', '--format', format, id)));
    return texts.map((text) => text.trim());
  }

  /** Resolves with what a container has printed when it has ended with status 0, however often before. */
  async success(container: string): Promise<string> {
    const format = '{{.State.Status}} {{.State.ExitCode}}';
    // From now on, also what happens before the engine has answered.
    const watch = new DockerLines([
      'events',
      '--since',
      (Date.now() / 1000).toFixed(3),
      '--filter',
      `container=${container}`,
      '--filter',
      'event=die',
      '--format',
      '{{.Actor.Attributes.exitCode}}',
    ]);
    try {
      // It may have ended before there was anybody to tell.
      const state = await dockerOk('inspect', '--format', format, container);
      if (state !== 'exited 0') await watch.saw(/^0$/);
      const { stdout, stderr } = await docker('logs', container);
      return stdout + stderr;
    } catch (err) {
      const { stdout, stderr } = await this.try('logs', '--tail', '40');
      throw new Error(`${(err as Error).message}\n${stdout}${stderr}`);
    } finally {
      watch.close();
    }
  }

  /** The web server of `downloads` keeps to its rate, from now on or no longer. */
  async hurry(yes: boolean): Promise<void> {
    await dockerOk('kill', '--signal', yes ? 'USR2' : 'USR1', await this.container('web'));
  }

  /** Follows what a container prints from now on. */
  follow(container: string): DockerLines {
    return new DockerLines(['logs', '--follow', '--since', `${Date.now() / 1000}`, container]);
  }

  /** Plain `down`; returns what is left of the project. */
  async down(): Promise<string[]> {
    await this.ok('down', '--timeout', '3');
    if (this.#dir !== undefined) rmSync(this.#dir, { recursive: true, force: true });
    const label = `label=com.docker.compose.project=${this.name}`;
    const left = await Promise.all([
      dockerOk('ps', '--all', '--quiet', '--filter', label),
      dockerOk('volume', 'ls', '--quiet', '--filter', label),
      dockerOk('network', 'ls', '--quiet', '--filter', label),
    ]);
    return left.flatMap((text) => text.split('\n')).filter(Boolean);
  }
}

/** Lines that a docker command prints as long as it runs. */
export class DockerLines {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #look: () => void = () => {};
  #ended = false;

  constructor(args: readonly string[]) {
    this.#child = spawn('docker', args, { stdio: ['ignore', 'pipe', 'ignore'] });
    const lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      this.#lines.push(line);
      this.#look();
    });
    this.#child.once('close', () => {
      this.#ended = true;
      this.#look();
    });
  }

  /** Resolves with the first line that matches, printed already or not. */
  async saw(pattern: RegExp): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<string>((resolve, reject) => {
        const fail = (why: string) =>
          reject(new Error(`No line matches ${pattern} ${why}:\n${this.#lines.join('\n')}`));
        timer = setTimeout(() => fail(`after ${LIMIT.wait / 1000} s`), LIMIT.wait);
        this.#look = () => {
          const found = this.#lines.find((line) => pattern.test(line));
          if (found !== undefined) resolve(found);
          else if (this.#ended) fail('and the command has ended');
        };
        this.#look();
      });
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    if (!this.#ended) this.#child.kill();
  }

  async closed(): Promise<void> {
    if (!this.#ended) await once(this.#child, 'close');
  }
}
