/** A lab whose parts are killed or stopped during a download: the download goes on, with the right bytes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Download, hashOfFile, WebServer } from './download_lab.ts';
import { TestBed } from './harness.ts';

const MIB = 2 ** 20;
const SIZE = 96 * MIB;
/** Longer than the two seconds after which a driver says that it waits. */
const STOPPED_MS = 3000;
const NO_ANSWER = /has not answered for 2 s: is the machine stopped\?/;

let web: WebServer;
let hash: string;
let bed: TestBed;

beforeAll(async () => {
  web = await WebServer.start();
  hash = await hashOfFile(SIZE);
});
afterAll(() => web.close());
beforeEach(() => {
  bed = new TestBed();
});
afterEach(() => bed.close());

async function finish(download: Download): Promise<void> {
  const { status, sha256 } = await download.end();
  expect([status, download.bytes, sha256], download.run.stderr).toEqual([0, SIZE, hash]);
  expect([bed.processes(), bed.files()]).toEqual([[], []]);
}

describe('kill -9 of ixl during a download', () => {
  it('starts the driver again and the download goes on', async () => {
    const download = new Download(bed, web.port, SIZE);
    await download.reached(8 * MIB);
    download.signal('ixl', 'SIGKILL');
    await finish(download);
    const { stderr } = download.run;
    expect(stderr).toMatch(/NIC is down as its driver .*, the driver is started again in 500 ms/);
    expect(stderr).toMatch(/NIC is back/);
  }, 300_000);

  it('does so twice', async () => {
    const download = new Download(bed, web.port, SIZE);
    await download.reached(8 * MIB);
    download.signal('ixl', 'SIGKILL');
    download.pause();
    await download.run.saw(/NIC is back/);
    await download.reached(download.bytes + 8 * MIB);
    download.signal('ixl', 'SIGKILL');
    download.pause();
    await download.run.saw(/NIC is back[\s\S]*NIC is back/);
    await finish(download);
  }, 300_000);
});

describe('SIGSTOP for three seconds during a download', () => {
  it.each(['ixl', 'machine', 'l4vio_switch', 'io'])(
    'of %s: the download goes on',
    async (task) => {
      const download = new Download(bed, web.port, SIZE);
      await download.reached(8 * MIB);
      download.signal(task, 'SIGSTOP');
      await sleep(STOPPED_MS);
      if (task === 'machine') await download.run.saw(NO_ANSWER);
      download.signal(task, 'SIGCONT');
      await finish(download);
      const { stderr } = download.run;
      expect(stderr).not.toMatch(/NIC is down/);
      expect(NO_ANSWER.test(stderr)).toBe(task === 'machine');
    },
    300_000,
  );

  it('of the machine with the driver inside the switch: the download goes on', async () => {
    const download = new Download(bed, web.port, SIZE, { switchOptions: '--ixl=in-process' });
    await download.reached(8 * MIB);
    download.signal('machine', 'SIGSTOP');
    await sleep(STOPPED_MS);
    download.signal('machine', 'SIGCONT');
    await finish(download);
  }, 300_000);
});

describe('kill -9 of the switch during a download', () => {
  it('ends its client, which says why', async () => {
    const download = new Download(bed, web.port, SIZE);
    await download.reached(8 * MIB);
    download.signal('l4vio_switch', 'SIGKILL');
    const { status } = await download.end();
    const { stderr } = download.run;
    // 18: bytes are missing, 56: receiving failed.
    expect([18, 56], stderr).toContain(status);
    expect(stderr).toMatch(/curl .*The device behind "virtnet" cannot be used any more: .*went away/);
  }, 300_000);
});

describe('kill -9 of the machine during a download', () => {
  it('ends the lab, and says why', async () => {
    const download = new Download(bed, web.port, SIZE);
    await download.reached(8 * MIB);
    download.signal('machine', 'SIGKILL');
    const { status } = await download.end();
    expect(status).not.toBe(0);
    expect(download.run.stderr).toMatch(/the machine was ended by SIGKILL: all NICs are gone/);
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  }, 300_000);
});
