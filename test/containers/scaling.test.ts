/** Ports of a running lab come and go with traffic on the others: 1 to 8 to 2 curls. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ComposeProject, hashOfFile } from './compose_project.ts';
import { buildImage, dockerOk, LIMIT, skipReason } from './docker.ts';

const SIZE = 32 * 2 ** 20;
/** Of each download, until all that is to be seen has been: none ends before, however slow the machine is. */
const RATE = 2 ** 18;
const POLL = { timeout: LIMIT.wait, interval: 500 };
const reason = await skipReason();

describe.skipIf(reason)('scaling curl from 1 to 8 to 2', { timeout: LIMIT.test }, () => {
  let project: ComposeProject;

  beforeAll(async () => {
    await buildImage();
    project = await ComposeProject.downloads(SIZE, RATE);
  }, LIMIT.build);
  afterAll(async () => {
    expect(await project?.down()).toEqual([]);
  }, LIMIT.wait);

  /** Running tasks called curl, curl-2, ... as ned knows them. */
  async function curls(): Promise<string[]> {
    const text = await dockerOk('exec', await project.container('ned'), 'l4lab', 'ps', '--json');
    const [lab] = JSON.parse(text) as [{ tasks: { name: string; state: string }[] }];
    return lab.tasks
      .filter(({ name, state }) => name.startsWith('curl') && state === 'running')
      .map(({ name }) => name)
      .sort();
  }

  it('gives each its own port, takes the ports back, and disturbs no download', async () => {
    await project.ok('up', '--detach');
    await project.ok('up', '--detach', '--no-recreate', '--scale', 'curl=8');
    await expect.poll(curls, POLL).toHaveLength(8);
    await project.ok('up', '--detach', '--no-recreate', '--scale', 'curl=2');
    await expect.poll(curls, POLL).toHaveLength(2);
    const ids = await project.containers('curl');
    expect(ids).toHaveLength(2);
    await project.hurry(true);
    const hash = hashOfFile(SIZE);
    const outputs = await Promise.all(ids.map((id) => project.success(id)));
    for (const output of outputs) expect(output).toContain(hash);
    const addresses = outputs.map((output) => /IP address: (\S+)/.exec(output)?.[1]);
    expect(new Set(addresses).size).toBe(2);
  });
});
