/** A switch that is killed during downloads and started again: its clients keep ports, addresses and TCP connections. */
import { once } from 'node:events';
import { mkdirSync, readdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Download, hashOfFile, labScript, ROM, signalTask, WebServer } from './download_lab.ts';
import { ExternalLab, SCALING, SERVERS } from './external_lab.ts';
import { Growing } from './growing_file.ts';
import { offline, type Run, TestBed } from './harness.ts';

const MIB = 2 ** 20;
const SIZE = 96 * MIB;

/** Stands before the web server, counts the connections that it gets, and holds back what the test does not want yet. */
class Counter {
  connections = 0;
  /** Bytes that may go to clients, all together. */
  #limit = Number.POSITIVE_INFINITY;
  #passed = 0;
  #resume: () => void = () => {};
  readonly #server: Server;

  private constructor(port: number) {
    this.#server = createServer((socket) => {
      this.connections += 1;
      const far = connect(port, '127.0.0.1');
      socket.on('error', () => far.destroy());
      far.on('error', () => socket.destroy());
      socket.pipe(far);
      far.on('data', (data) => {
        this.#passed += data.length;
        const drained = socket.write(data);
        if (!drained || this.#passed >= this.#limit) far.pause();
      });
      far.on('end', () => socket.end());
      const resume = () => {
        if (this.#passed < this.#limit && !socket.writableNeedDrain) far.resume();
      };
      socket.on('drain', resume);
      this.#resume = resume;
    });
  }

  static async before(port: number): Promise<Counter> {
    const counter = new Counter(port);
    counter.#server.listen(0, '127.0.0.1');
    await once(counter.#server, 'listening');
    return counter;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Lets so many bytes go to clients, all together. */
  allow(bytes: number): void {
    this.#limit = bytes;
    this.#resume();
  }

  close(): void {
    this.#server.close();
  }
}

const IDLE = `export async function main(env) {
  console.log("up");
  await new Promise((end) => env.signal.addEventListener("abort", end));
}`;

let web: WebServer;
let hash: string;
let counter: Counter;
beforeAll(async () => {
  web = await WebServer.start();
  hash = await hashOfFile(SIZE);
});
afterAll(() => web.close());
afterEach(() => counter.close());

describe('kill -9 of the switch with components that are started again', () => {
  let lab: ExternalLab;
  afterEach(() => lab[Symbol.asyncDispose]());

  /**
   * A lab that is up, and a curl that downloads through it. The switch has room for the NIC and one more port, and is
   * started again like the others, or by the test.
   */
  async function downloading(again: 'always' | 'by hand'): Promise<{ curl: Run; file: Growing }> {
    counter = await Counter.before(web.port);
    // The download does not end before the test wants it to.
    counter.allow(8 * MIB);
    lab = await ExternalLab.start(SCALING, counter.port);
    const path = join(lab.bed.scratch, 'download');
    const command = `-o ${path} http://ftp.de.debian.org/bytes/${SIZE}`;
    const script = SCALING.replace('http://ftp.de.debian.org/debian/', command);
    lab.bed.file('curl.cfg', script.replace('"rom/l4vio_switch"', '"rom/l4vio_switch -p 2"'));
    lab.startBroker();
    lab.supervise(...SERVERS.filter((task) => task !== 'l4vio_switch' || again === 'always'));
    if (again === 'by hand') lab.component('l4vio_switch');
    await lab.ready('ned', ...SERVERS);
    const curl = lab.component('curl');
    const file = new Growing(path, curl);
    await file.more(4 * MIB);
    return { curl, file };
  }

  /** The directory of the journal. */
  function journal(): string {
    const gates = join(lab.bed.base, 'broker', 'g');
    const [dir] = readdirSync(gates).filter((name) => name.endsWith('.ports'));
    if (dir === undefined) throw new Error('there is no journal');
    return join(gates, dir);
  }

  /** What is kept of ports; a record that is being written is there twice. */
  const ports = (): string[] => readdirSync(journal()).filter((name) => !/^nic|\.new$/.test(name));

  it('three times in a download: the same curl, one connection, the right bytes', async () => {
    const { curl, file } = await downloading('always');
    for (let kill = 1; kill <= 3; kill++) {
      const before = (kill - 1) * 24 * MIB;
      counter.allow(before + 16 * MIB);
      await file.more(before + 8 * MIB - file.bytes);
      await lab.kill('l4vio_switch');
      // What comes now has passed the new one.
      counter.allow(before + 24 * MIB + MIB);
      await file.more(before + 24 * MIB - file.bytes);
    }
    counter.allow(Number.POSITIVE_INFINITY);
    expect(await curl.exit, curl.stderr).toBe(0);
    expect([file.bytes, await file.sha256()]).toEqual([SIZE, hash]);
    expect(counter.connections).toBe(1);
    expect(curl.stderr.match(/virtnet is back after \d+ ms/g)).toHaveLength(3);
    expect(ports()).toEqual([]);
    expect((await lab.end()).files).toEqual([]);
  }, 300_000);

  it('SIGTERM, as at the restart of a container: the same', async () => {
    const { curl, file } = await downloading('always');
    lab.running.get('l4vio_switch')?.child.kill('SIGTERM');
    await curl.saw(/virtnet is back/);
    counter.allow(Number.POSITIVE_INFINITY);
    expect(await curl.exit, curl.stderr).toBe(0);
    expect([file.bytes, await file.sha256(), counter.connections]).toEqual([SIZE, hash, 1]);
  }, 300_000);

  it('a client that ends while the switch is away: its port is not there afterwards', async () => {
    const { curl } = await downloading('by hand');
    expect(ports()).toHaveLength(1);
    await lab.kill('l4vio_switch');
    curl.child.kill('SIGKILL');
    await lab.broker?.saw(/task 'curl' was ended by a signal/);
    expect(ports()).toHaveLength(1);
    lab.component('l4vio_switch');
    // The switch asks who is left.
    while (ports().length > 0) await sleep(10);
    // There is room for one client: its port was given back.
    counter.allow(Number.POSITIVE_INFINITY);
    expect((await lab.curl()).stderr).toContain('Interface');
  }, 300_000);

  it('a journal that somebody has spoiled: a warning, clients that say what is missing, and new ports', async () => {
    const { curl } = await downloading('by hand');
    await lab.kill('l4vio_switch');
    const [port] = ports() as [string];
    truncateSync(join(journal(), port), 5);
    symlinkSync('/etc/passwd', join(journal(), '00000001'));
    mkdirSync(join(journal(), '00000002'));
    writeFileSync(join(journal(), 'zzz'), 'no port');
    const again = lab.component('l4vio_switch');
    expect([18, 56]).toContain(await curl.exit);
    expect(curl.stderr).toMatch(
      /Cannot use "virtnet" any more as its server was started again and has no such device any more; create it anew/,
    );
    await lab.ready('l4vio_switch');
    expect(again.text.match(/Cannot make port again from \S+ as .*\. It is ignored/g)).toHaveLength(4);
    expect(ports()).toEqual([]);
    counter.allow(Number.POSITIVE_INFINITY);
    await lab.curl();
  }, 300_000);
});

describe('kill -9 of the switch with a restart policy', () => {
  let bed: TestBed;
  beforeEach(() => {
    bed = new TestBed();
  });
  afterEach(() => bed.close());

  it.each(['task', 'in-process'])(
    'three times in a download, NIC driver as %s: the same curl, one connection, the right bytes',
    async (ixl) => {
      counter = await Counter.before(web.port);
      counter.allow(0);
      const download = new Download(bed, counter.port, SIZE, {
        switchOptions: `--ixl=${ixl}`,
        arguments: ['--restart', 'l4vio_switch'],
      });
      for (let kill = 1; kill <= 3; kill++) {
        const before = (kill - 1) * 24 * MIB;
        counter.allow(before + 16 * MIB);
        await download.reached(before + 8 * MIB);
        download.signal('l4vio_switch', 'SIGKILL');
        // What comes now has passed the new one.
        counter.allow(before + 24 * MIB + MIB);
        await download.reached(before + 24 * MIB);
      }
      counter.allow(Number.POSITIVE_INFINITY);
      const { status, sha256 } = await download.end();
      const { stderr } = download.run;
      expect([status, download.bytes, sha256], stderr).toEqual([0, SIZE, hash]);
      expect(counter.connections).toBe(1);
      expect(stderr.match(/virtnet is back after \d+ ms/g)).toHaveLength(3);
      expect([bed.processes(), bed.files()]).toEqual([[], []]);
    },
    300_000,
  );

  it('SIGTERM is the end of the switch: no journal is left, clients end, others go on', async () => {
    counter = await Counter.before(web.port);
    bed.file('idle.mjs', IDLE);
    const body = `ld:start({ caps = port() }, "rom/idle.mjs")
ld:start({ log = { "get" }, caps = port() }, "rom/curl -s -S -o /dev/null http://mirror/bytes/${100 * SIZE}", { IFCONFIG_IP4_vn0 = "dhcp" })
  :exit_handler(function(code) print("get ended with", code) end)`;
    const run = bed.l4lab(['run', labScript(bed, { body }), ...ROM, ...offline(counter.port, 'mirror')]);
    await run.saw(/idle\.mjs\| up/);
    await run.saw(/get +\| +IP address/);
    while (counter.connections === 0) await sleep(10);
    const journals = () =>
      bed.files().filter((name) => name.includes('.ports/') && !/nic\d$|\.new$/.test(name));
    expect(journals()).toHaveLength(2);
    signalTask(bed, 'l4vio_switch', 'SIGTERM');
    await run.saw(/get ended with\s+(18|56)/);
    await run.saw(/"virtnet" cannot be used any more: .* its server has given it up/);
    expect(bed.files().filter((name) => name.includes('.ports'))).toEqual([]);
    expect(run.child.exitCode).toBe(null);
    run.child.kill('SIGINT');
    expect(await run.exit, run.stderr).toBe(130);
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  }, 300_000);
});
