/** `docker compose up` in a checkout: the page in the logs, replicas, and nothing left after `down`. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage, docker, dockerOk, IMAGE, whyNoCompose } from './docker.ts';

const PROJECT = `l4lab-test-${randomBytes(4).toString('hex')}`;
const REPLICAS = 4;
const LABEL = `label=com.docker.compose.project=${PROJECT}`;

const reason = await whyNoCompose();
if (reason) console.warn(`test/containers: skipped as ${reason}`);

function compose(...args: string[]): Promise<string> {
  return dockerOk('compose', '--project-name', PROJECT, ...args);
}

/** What each curl container has printed when it has ended. */
async function curlsOutput(): Promise<string[]> {
  const ids = (await compose('ps', '--all', '--quiet', 'curl')).split('\n');
  return Promise.all(
    ids.map(async (id) => {
      for (;;) {
        const running = await dockerOk('inspect', '--format', '{{.State.Running}}', id);
        if (running === 'false') break;
        await sleep(200);
      }
      return (await docker('logs', id)).stdout;
    }),
  );
}

describe.skipIf(reason)('docker compose', { timeout: 90_000 }, () => {
  beforeAll(async () => {
    await buildImage();
    process.env.L4LAB_IMAGE = IMAGE;
  }, 600_000);
  afterAll(async () => {
    await compose('down', '--volumes', '--timeout', '5');
    delete process.env.L4LAB_IMAGE;
  });

  it('up shows the page in the logs of curl', async () => {
    await compose('up', '--detach');
    const [page = ''] = await curlsOutput();
    expect(page).toContain('<title>Index of /debian/</title>');
    expect(page).toContain('</html>');
  });

  it('each replica has a port of its own and the page', async () => {
    await compose('up', '--detach', '--scale', `curl=${REPLICAS}`);
    const outputs = await curlsOutput();
    expect(outputs).toHaveLength(REPLICAS);
    for (const output of outputs) expect(output).toContain('</html>');
  });

  it('down leaves nothing', async () => {
    await compose('down', '--volumes', '--timeout', '5');
    const left = await Promise.all([
      dockerOk('ps', '--all', '--quiet', '--filter', LABEL),
      dockerOk('volume', 'ls', '--quiet', '--filter', LABEL),
      dockerOk('network', 'ls', '--quiet', '--filter', LABEL),
    ]);
    expect(left).toEqual(['', '', '']);
  });
});
