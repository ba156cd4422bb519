/**
 * Each component is killed, paused and restarted during a download of 64 MiB: the file has the right hash in
 * the end, and nobody else was touched.
 *
 * "In the end": a download survives the end of ned and the driver; that of io may stall it. The end of the machine
 * takes the far end of the connection with it, that of the switch the port: curl then fails, at the latest as nobody
 * answers its keep-alive probes, and the engine starts it again (restart: on-failure).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ComposeProject, hashOfFile } from './compose_project.ts';
import { buildImage, docker, dockerOk, LIMIT, skipReason } from './docker.ts';

const SIZE = 64 * 2 ** 20;
const RATE = 20 * 2 ** 20;
/** Longer than any patience on the way: the driver says after two seconds that it waits. */
const PAUSE_MS = 2500;
const COMPONENTS = ['machine', 'ned', 'io', 'ixl', 'l4vio_switch'] as const;

const FAULTS: Readonly<Record<string, (container: string) => Promise<void>>> = {
  kill: async (container) => {
    await dockerOk('kill', container);
    await dockerOk('start', container);
  },
  pause: async (container) => {
    await freeze(container);
    await sleep(PAUSE_MS);
    await dockerOk('unpause', container);
  },
  restart: async (container) => {
    await dockerOk('restart', '--time', '3', container);
  },
};

/**
 * `docker pause`. runc writes FROZEN a thousand times and then says that it cannot, which leaves the container as it
 * was: a machine with forty busy programs does not run each of its threads in that time.
 */
async function freeze(container: string): Promise<void> {
  for (;;) {
    const { status, stderr } = await docker('pause', container);
    if (status === 0) return;
    if (!stderr.includes('unable to freeze')) throw new Error(`Cannot pause ${container}:\n${stderr}`);
  }
}

const reason = await skipReason();

describe.skipIf(reason)('a download of 64 MiB', { timeout: LIMIT.test }, () => {
  let project: ComposeProject;
  let hash: string;

  beforeAll(async () => {
    await buildImage();
    hash = hashOfFile(SIZE);
    project = await ComposeProject.downloads(SIZE, RATE);
    await project.ok('up', '--detach');
    await project.hurry(true);
    expect(await project.success(await project.container('curl'))).toContain(hash);
  }, LIMIT.build);
  afterAll(async () => {
    expect(await project?.down()).toEqual([]);
  }, LIMIT.wait);

  // A download that failed its test is no business of the next one.
  afterEach(async () => {
    await dockerOk('stop', '--time', '3', await project.container('curl'));
  }, LIMIT.wait);

  /** When each container was started last, by its service. */
  async function starts(): Promise<Record<string, string>> {
    const services = [...COMPONENTS, 'shm', 'web'];
    const times = services.map(async (service) => {
      const id = await project.container(service);
      return [service, await dockerOk('inspect', '--format', '{{.State.StartedAt}}', id)] as const;
    });
    return Object.fromEntries(await Promise.all(times));
  }

  for (const [fault, happen] of Object.entries(FAULTS)) {
    it.each(COMPONENTS)(`has the right hash after ${fault} of %s`, async (component) => {
      const before = await starts();
      const [web, curl] = [await project.container('web'), await project.container('curl')];
      const victim = await project.container(component);
      const progress = project.follow(web);
      const since = new Date().toISOString();
      await project.hurry(false);
      await dockerOk('start', curl);
      try {
        await progress.saw(/^quarter of/);
        await happen(victim);
      } finally {
        progress.close();
        await project.hurry(true);
      }
      await project.success(curl);
      expect(await dockerOk('logs', '--since', since, curl)).toContain(hash);
      const changed = Object.entries(await starts()).filter(([service, time]) => before[service] !== time);
      // The driver ends with its NIC's machine, or its switch, and is started again by the engine.
      const alsoEnds = component === 'machine' || component === 'l4vio_switch' ? ['ixl'] : [];
      const names = changed.map(([service]) => service);
      const logs = await project.logs(since);
      expect([component, ...alsoEnds], logs).toEqual(expect.arrayContaining(names));
    });
  }
});
