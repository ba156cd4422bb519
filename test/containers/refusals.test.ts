/** Containers that cannot work: each says in one sentence why, and what to do. Nothing else is harmed. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ComposeProject } from './compose_project.ts';
import { buildImage, CONFINED, Containers, docker, dockerOk, LIMIT, skipReason } from './docker.ts';

const SECRET = 'ab'.repeat(16);
const reason = await skipReason();

describe.skipIf(reason)('a component that the broker refuses', { timeout: LIMIT.test }, () => {
  const containers = new Containers();
  let broker: string;
  let scratch: string;

  beforeAll(async () => {
    await buildImage();
    scratch = mkdtempSync(join(tmpdir(), 'l4lab-test-'));
    broker = await containers.start(
      [...CONFINED, '--ipc', 'shareable', '--env', `L4LAB_SECRET=${SECRET}`, ...BASE],
      ['broker', 'deploy/labs/compose/compose.cfg'],
    );
    await containers.saw(broker, 'Hi World');
  }, LIMIT.build);
  afterAll(async () => {
    await containers.close();
    rmSync(scratch, { recursive: true, force: true });
  }, LIMIT.wait);

  const BASE = ['--env', 'L4LAB_RUN_BASE=/dev/shm/l4lab'];
  const component = (options: readonly string[], ...command: string[]) =>
    containers.run(
      [...CONFINED, '--ipc', `container:${broker}`, ...BASE, ...options],
      ['component', ...command],
    );

  it.each([
    ['without a secret', [], 'curl', /its secret was not given to this component: set L4LAB_SECRET_FILE/],
    [
      'with another secret',
      ['--env', `L4LAB_SECRET=${'cd'.repeat(16)}`],
      'curl',
      /the broker refused this secret: give every part of the lab the same L4LAB_SECRET_FILE/,
    ],
    [
      'with a secret that can be guessed',
      ['--env', 'L4LAB_SECRET=short'],
      'curl',
      /it must have at least 16 characters: it has 5; make one with: openssl rand -hex 32/,
    ],
    [
      'with the name of no task',
      ['--env', `L4LAB_SECRET=${SECRET}`],
      'wget',
      /Cannot start 'wget' as the script starts no task of that name\. Its tasks: machine, io, l4vio_switch, curl/,
    ],
    [
      'as another user',
      ['--env', `L4LAB_SECRET=${SECRET}`, '--user', '23456'],
      'curl',
      /Cannot use \/dev\/shm\/l4lab for labs as it must belong to you: its owner is user 10001/,
    ],
  ])('%s', async (_, options, task, message) => {
    const { status, stderr } = await component(options, task);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(status).toBe(2);
  });

  it('of another version', async () => {
    const path = join(scratch, 'version.js');
    writeFileSync(path, "export const VERSION = '9.8.7';\n");
    chmodSync(path, 0o644);
    const options = [
      '--env',
      `L4LAB_SECRET=${SECRET}`,
      '--volume',
      `${path}:/opt/l4lab/dist/services/common/version.js:ro`,
    ];
    const { status, stderr } = await component(options, 'curl');
    expect(stderr).toMatch(
      /must be of the same version: the broker on \w+ is l4lab [\d.]+, this component is l4lab 9\.8\.7/,
    );
    expect(status).toBe(2);
  });

  it('and the broker goes on', async () => {
    const { status, stdout } = await docker(
      'exec',
      '--env',
      `L4LAB_SECRET=${SECRET}`,
      broker,
      'l4lab',
      'health',
      'ned',
    );
    expect([status, stdout]).toEqual([0, 'ned is ready\n']);
  });
});

describe.skipIf(reason)('a container without room', { timeout: LIMIT.test }, () => {
  const containers = new Containers();
  beforeAll(() => buildImage(), LIMIT.build);
  afterAll(() => containers.close(), LIMIT.wait);

  it.each([
    ['run', 'deploy/labs/curl/curl.cfg'],
    ['broker', 'deploy/labs/compose/compose.cfg'],
    ['component', 'curl'],
    ['ps'],
  ])('%s says that a read-only file system needs a tmpfs', async (...command) => {
    const { status, stderr } = await containers.run(CONFINED, command);
    expect(stderr).toMatch(/^l4lab: Cannot use \/run\/l4lab\/labs .*\(EROFS\); give the container a tmpfs/);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(status).toBe(2);
  });

  it('says how a tmpfs that is full is made larger here', async () => {
    const { status, stderr } = await containers.run(
      [...CONFINED, '--tmpfs', '/run/l4lab:size=8k'],
      ['run', 'deploy/labs/curl/curl.cfg'],
    );
    expect(stderr).toMatch(/no space left on device \(ENOSPC\).*docker run --tmpfs \/run\/l4lab:size=/);
    expect(stderr).not.toContain('remount');
    expect(status).toBe(2);
  });

  it('web says that its port is in use', async () => {
    const web = 'node dist/services/web/main.js 8080';
    const { stderr, status } = await containers.run(
      [...CONFINED, '--entrypoint', 'sh'],
      ['-c', `${web} >/dev/shm/out & until [ -s /dev/shm/out ]; do sleep 0.1; done; ${web}`],
    );
    expect(stderr).toMatch(
      /^web: Cannot listen on 127\.0\.0\.1:8080 as .*EADDRINUSE.*; another program has that port/,
    );
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(status).toBe(1);
  });
});

describe.skipIf(reason)('64 MiB of shared memory, full', { timeout: LIMIT.test }, () => {
  const project = ComposeProject.committed({ L4LAB_SHM_SIZE: '64m' });
  beforeAll(() => buildImage(), LIMIT.build);
  afterAll(async () => {
    expect(await project.down()).toEqual([]);
  }, LIMIT.wait);

  /** Names of the switch's ports. */
  async function ports(): Promise<string[]> {
    const ned = await project.container('ned');
    const stats = await dockerOk('exec', ned, 'l4lab', 'stats', '--json', '--interval', '0');
    const { switches } = JSON.parse(stats) as { switches: { ports: { name: string }[] }[] };
    return switches.flatMap(({ ports }) => ports.map(({ name }) => name));
  }

  it('a new port is refused with a sentence; those that are there go on, and space heals it', async () => {
    await project.ok('up', '--detach');
    const [shm, curl] = [await project.container('shm'), await project.container('curl')];
    expect(await project.success(curl)).toContain('</html>');
    // What its port had would be room for the next one.
    await expect.poll(ports, { timeout: LIMIT.wait, interval: 500 }).toEqual(['ixl-e1000']);
    await docker('exec', shm, 'sh', '-c', 'cat /dev/zero > /dev/shm/filler');
    const refused = await project.try('run', '--rm', '-T', '--no-deps', 'curl');
    expect(refused.status).not.toBe(0);
    expect(`${refused.stdout}${refused.stderr}`).toMatch(
      /full: free some of it .*or make it larger \(L4LAB_SHM_SIZE=1g docker compose up -d\)|no space left on device/i,
    );
    for (const service of ['ned', 'machine', 'io', 'l4vio_switch', 'ixl'])
      expect([service, await project.states(service)]).toEqual([service, ['running healthy']]);
    await dockerOk('exec', shm, 'rm', '/dev/shm/filler');
    const { status, stdout } = await project.try('run', '--rm', '-T', '--no-deps', 'curl');
    expect([status, stdout.includes('</html>')]).toEqual([0, true]);
  });
});
