/** `docker compose up` in a checkout: the page in the logs, replicas, projects side by side, nothing left. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DockerComposeEnvironment, type StartedDockerComposeEnvironment } from 'testcontainers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directoryPage } from '../../services/web/site.ts';
import { ComposeProject } from './compose_project.ts';
import { buildImage, dockerOk, IMAGE, LIMIT, ROOT, skipReason } from './docker.ts';

const REPLICAS = 4;
const PAGE = directoryPage('/debian/');
const POLL = { timeout: LIMIT.wait, interval: 500 };
/** The engine's own helper for leftovers cannot be had without a registry; `down` is a test of ours. */
process.env.TESTCONTAINERS_RYUK_DISABLED ??= 'true';

const reason = await skipReason();

describe.skipIf(reason)('docker compose', { timeout: LIMIT.test }, () => {
  const project = ComposeProject.committed();
  beforeAll(() => buildImage(), LIMIT.build);
  afterAll(async () => {
    await project.down();
  }, LIMIT.wait);

  it('up shows the page in the logs of curl; each server is healthy by then', async () => {
    await project.ok('up', '--detach');
    expect(await project.success(await project.container('curl'))).toContain(PAGE);
    for (const service of ['ned', 'machine', 'io', 'l4vio_switch', 'ixl'])
      expect([service, await project.states(service)]).toEqual([service, ['running healthy']]);
  });

  it('each replica has a port of its own and the page', async () => {
    await project.ok('up', '--detach', '--scale', `curl=${REPLICAS}`);
    const ids = await project.containers('curl');
    expect(ids).toHaveLength(REPLICAS);
    for (const output of await Promise.all(ids.map((id) => project.success(id))))
      expect(output).toContain(PAGE);
  });

  it('no container has root, a capability, a privilege, or a file system to write but a tmpfs', async () => {
    for (const service of ['shm', 'ned', 'machine', 'io', 'l4vio_switch', 'ixl', 'curl', 'web']) {
      const text = await dockerOk('inspect', await project.container(service));
      const [{ Config, HostConfig, Mounts }] = JSON.parse(text);
      expect([service, Config.User, HostConfig.ReadonlyRootfs, HostConfig.Privileged]).toEqual([
        service,
        '10001:10001',
        true,
        false,
      ]);
      expect([HostConfig.CapDrop, HostConfig.CapAdd ?? [], HostConfig.SecurityOpt]).toEqual([
        ['ALL'],
        [],
        ['no-new-privileges:true'],
      ]);
      expect([service, Mounts]).toEqual([service, []]);
      const networks = service === 'machine' || service === 'web' ? `${project.name}_default` : 'none';
      expect([service, HostConfig.NetworkMode]).toEqual([service, networks]);
    }
  });

  it('a component that hangs is unhealthy as long as it does', async () => {
    const io = await project.container('io');
    await dockerOk('kill', '--signal', 'STOP', io);
    await expect.poll(() => project.states('io'), POLL).toEqual(['running unhealthy']);
    await dockerOk('kill', '--signal', 'CONT', io);
    await expect.poll(() => project.states('io'), POLL).toEqual(['running healthy']);
  });

  it('plain down leaves no container, volume or network', async () => {
    expect(await project.down()).toEqual([]);
  });

  it('profile tap: a lab behind a TAP interface shows the page; it alone has NET_ADMIN', async () => {
    const { status, stdout, stderr } = await project.try('--profile', 'tap', 'run', '--rm', '-T', 'tap');
    expect(stdout, stderr).toContain('</html>');
    expect(status).toBe(0);
    const file = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');
    expect(file.match(/NET_ADMIN/g)).toHaveLength(1);
    expect(await project.down()).toEqual([]);
  });
});

describe.skipIf(reason)('a script that waits for what it starts', { timeout: LIMIT.test }, () => {
  let project: ComposeProject;
  beforeAll(async () => {
    await buildImage();
    project = await ComposeProject.ofScript('deploy/labs/curl/curl.cfg');
  }, LIMIT.build);
  afterAll(async () => {
    expect(await project?.down()).toEqual([]);
  }, LIMIT.wait);

  it('comes up all the same: the documented one, unchanged, whose curl can be started again', async () => {
    await project.ok('up', '--detach');
    const curl = await project.container('curl');
    expect(await project.success(curl)).toContain(PAGE);
    await dockerOk('start', curl);
    expect((await project.success(curl)).split(PAGE)).toHaveLength(3);
  });
});

/** A lab's curl, which may have ended before `up` returns: testcontainers only knows containers that run then. */
function curlOf(project: string): Promise<string> {
  const label = (key: string, value: string) => ['--filter', `label=com.docker.compose.${key}=${value}`];
  return dockerOk('ps', '--all', '--quiet', ...label('project', project), ...label('service', 'curl'));
}

/** Everything that a container has printed when it has ended. */
async function printed(container: string): Promise<string> {
  await dockerOk('wait', container);
  return dockerOk('logs', container);
}

describe.skipIf(reason)('two projects side by side', { timeout: LIMIT.test }, () => {
  const labs = new Map<string, StartedDockerComposeEnvironment>();
  beforeAll(() => buildImage(), LIMIT.build);
  afterAll(async () => {
    for (const lab of labs.values()) await lab.down({ removeVolumes: false });
  }, LIMIT.wait);

  it('both show the page, and the end of one leaves the other alone', async () => {
    const projects = [0, 1].map(() => `l4lab-test-${randomBytes(4).toString('hex')}`);
    const start = (project: string) =>
      new DockerComposeEnvironment(ROOT, 'docker-compose.yml')
        .withProjectName(project)
        .withEnvironment({ L4LAB_IMAGE: IMAGE, COMPOSE_PROFILES: 'demo' })
        .up()
        .then((lab) => labs.set(project, lab));
    // Both to their end: one of them must not come up when the tests are over as the other one failed.
    const starts = await Promise.allSettled(projects.map(start));
    expect(starts.filter(({ status }) => status === 'rejected')).toEqual([]);
    const [, second] = (await Promise.all(projects.map(curlOf))) as [string, string];
    for (const project of projects) expect(await printed(await curlOf(project))).toContain(PAGE.trim());
    const [first] = projects as [string, string];
    await labs.get(first)?.down({ removeVolumes: false });
    labs.delete(first);
    expect(await curlOf(first)).toBe('');
    await dockerOk('restart', second);
    expect((await printed(second)).split(PAGE.trim())).toHaveLength(3);
  });
});
