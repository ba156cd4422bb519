/** A cable that is killed in the middle of a download and started again: its clients keep ports, addresses and connections. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { signalTask } from './download_lab.ts';
import { ExternalLab } from './external_lab.ts';
import { FifoDownload } from './fifo_download.ts';
import { TestBed } from './harness.ts';

const MIB = 2 ** 20;
const SIZE = 48 * MIB;
const MS = 600_000;

let bed: TestBed;
beforeEach(() => {
  bed = new TestBed();
});
afterEach(() => bed.close());

/** A directory `site` with a large file in it; what a download of that must be. */
function makeSite(bed: TestBed): string {
  const bytes = randomBytes(SIZE);
  mkdirSync(join(bed.scratch, 'site'));
  writeFileSync(join(bed.scratch, 'site', 'big'), bytes);
  return createHash('sha256').update(bytes).digest('hex');
}

/** A cable between a web server and a curl that writes to a file. */
const scriptFor = (path: string): string => `local L4 = require("L4");
local ld = L4.default_loader;
local p2p = ld:new_channel();
ld:start({ caps = { svr = p2p:svr() } }, "rom/l4vio_net_p2p");
ld:start({ caps = { virtnet = p2p:create(0, "ds-max=4"), rom = L4.Env.rom } }, "rom/httpd rom/site", { IFCONFIG_IP4_vn0 = "10.0.0.1/24" });
ld:start({ caps = { virtnet = p2p:create(0, "ds-max=4") } }, "rom/curl -s -S --retry 3 --retry-connrefused -o ${path} http://10.0.0.1/big", { IFCONFIG_IP4_vn0 = "10.0.0.2/24" });
`;

it(
  'kill -9 of l4vio_net_p2p with a restart policy, twice in a download: one request, the right bytes',
  async () => {
    const hash = makeSite(bed);
    const path = join(bed.scratch, 'download');
    const lab = bed.l4lab([
      'run',
      bed.file('cable.cfg', scriptFor(path)),
      ...['--rom', bed.scratch, '--nic', 'none', '--restart', 'l4vio_net_p2p', '--wait-for', 'curl'],
    ]);
    const file = new FifoDownload(path, lab);
    await file.more(4 * MIB);
    for (let kill = 1; kill <= 2; kill++) {
      signalTask(bed, 'l4vio_net_p2p', 'SIGKILL');
      await lab.saw(new RegExp(`(Started again, with port 0 and port 1[^]*){${kill}}`));
      await file.more(8 * MIB);
    }
    expect(await file.rest(), lab.stderr).toBe(0);
    expect([file.bytes, file.sha256()]).toEqual([SIZE, hash]);
    // Nothing was asked for twice, and both clients came back each time.
    expect(lab.text.match(/"GET \/big HTTP\/1.1" 200/g)).toHaveLength(1);
    expect(`${lab.text}${lab.stderr}`.match(/virtnet is back after \d+ ms/g)).toHaveLength(4);
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  },
  MS,
);

it.each(['SIGKILL', 'SIGTERM'] as const)(
  '%s of l4vio_net_p2p as a component that is started again: the same curl, the right bytes',
  async (signal) => {
    const path = join(bed.scratch, 'download');
    const lab = await ExternalLab.start(scriptFor(path));
    try {
      const hash = makeSite(lab.bed);
      lab.startBroker('--nic', 'none');
      lab.supervise('machine', 'l4vio_net_p2p', 'httpd');
      await lab.ready('ned', 'l4vio_net_p2p', 'httpd');
      const curl = lab.component('curl');
      const file = new FifoDownload(path, curl);
      await file.more(4 * MIB);
      lab.running.get('l4vio_net_p2p')?.child.kill(signal);
      await curl.saw(/virtnet is back/);
      expect(await file.rest(), curl.stderr).toBe(0);
      expect([file.bytes, file.sha256()]).toEqual([SIZE, hash]);
      expect((await lab.end()).files).toEqual([]);
    } finally {
      await lab[Symbol.asyncDispose]();
    }
  },
  MS,
);
