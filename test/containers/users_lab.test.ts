/** The helper for users' own tests, `l4lab/testing`, as they use it. */
import {
  GenericContainer,
  Network,
  type StartedNetwork,
  type StartedTestContainer,
  Wait,
} from 'testcontainers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directoryPage } from '../../services/web/site.ts';
import { startLab } from '../lab/index.ts';
import { buildImage, dockerOk, IMAGE, LIMIT, whyNoContainers } from './docker.ts';

const SCRIPT = 'deploy/labs/curl/curl.cfg';

/** The documented script with a server in curl's place. */
const SERVER_SCRIPT = `local L4 = require("L4");
local ld = L4.default_loader;
local vbus = ld:new_channel();
ld:start({ caps = { sigma0 = L4.Env.sigma0; icu = L4.Env.icu; iommu = L4.Env.iommu; ethdevs = vbus:svr(); }, }, "rom/io rom/ixl.vbus");
local vswitch = ld:new_channel();
ld:start({ caps = { vbus = vbus, svr = vswitch:svr() } }, "rom/l4vio_switch");
ld:start({ caps = { virtnet = vswitch:create(0, "name=web"), rom = L4.Env.rom }, log = { "web", "g" } },
         "rom/httpd rom/", { IFCONFIG_IP4_vn0 = "dhcp" });
`;

const reason = await whyNoContainers();
if (reason) console.warn(`test/containers: skipped as ${reason}`);

describe.skipIf(reason)('l4lab/testing', { timeout: LIMIT.test }, () => {
  let network: StartedNetwork;
  let web: StartedTestContainer;

  beforeAll(async () => {
    await buildImage();
    network = await new Network().start();
    web = await new GenericContainer(IMAGE)
      .withEntrypoint(['node'])
      .withCommand(['dist/services/web/main.js', '8080', '0.0.0.0'])
      .withNetwork(network)
      .withNetworkAliases('web')
      .withWaitStrategy(Wait.forLogMessage(/listening/))
      .start();
  }, LIMIT.build);
  afterAll(async () => {
    await web?.stop();
    await network?.stop();
  }, LIMIT.wait);

  const documented = () => ({
    script: SCRIPT,
    image: IMAGE,
    network,
    hosts: { 'ftp.de.debian.org': '10.0.2.100' },
    forwards: { '10.0.2.100:80': 'web:8080' },
    timeoutMs: LIMIT.wait,
  });

  it('runs the documented script against a container of the test and records its wire', async () => {
    const lab = await startLab({ ...documented(), record: true });
    const id = lab.container.getId();
    try {
      expect(await lab.ended('curl', { timeoutMs: LIMIT.wait })).toEqual({ status: 0 });
      expect(lab.output('curl')).toContain(directoryPage('/debian/').trimEnd());
      expect(await lab.tasks()).toContainEqual(expect.objectContaining({ name: 'ixl', state: 'running' }));
    } finally {
      await lab.stop();
    }
    const frames = await lab.frames();
    const sent = (text: string, inbound: boolean) =>
      frames.some((frame) => frame.inbound === inbound && Buffer.from(frame.bytes).includes(text));
    expect([sent('GET /debian/ HTTP/1.1', false), sent('HTTP/1.1 200 OK', true)]).toEqual([true, true]);
    expect(await dockerOk('ps', '--all', '--quiet', '--no-trunc', '--filter', `id=${id}`)).toBe('');
  });

  it('leads to a server in the lab, and tells its port and address', async () => {
    const lab = await startLab({
      script: SCRIPT,
      image: IMAGE,
      files: { 'curl.cfg': SERVER_SCRIPT, 'hello.txt': 'hello from the lab\n' },
      expose: ['10.0.2.15:80'],
      ready: /^Serving \S+ at http/,
      timeoutMs: LIMIT.wait,
    });
    try {
      const { host, port } = lab.address('10.0.2.15:80');
      const response = await fetch(`http://${host}:${port}/hello.txt`);
      expect([response.status, await response.text()]).toEqual([200, 'hello from the lab\n']);
      await lab.printed('"GET /hello.txt HTTP/1.1" 200 19', { task: 'web', timeoutMs: LIMIT.wait });
      const [nic, web] = await lab.ports();
      expect(nic).toMatchObject({ switch: 'l4vio_switch', name: 'ixl-e1000', kind: 'nic', address: null });
      expect(web).toMatchObject({ name: 'web', kind: 'port', vlan: 'native', address: '10.0.2.15' });
      expect(() => lab.address('10.0.2.15:81')).toThrow(/not in `expose`/);
    } finally {
      await lab.stop();
    }
  });

  it.each([
    ['', {}],
    [', whose port the engine has already taken back', { expose: ['10.0.2.15:80'] }],
  ])('says what the lab printed when the script is wrong%s', async (_, options) => {
    const network = await new Network().start();
    try {
      const files = { 'curl.cfg': 'local x = nil;\nx.y = 1;\n' };
      const starting = startLab({
        script: SCRIPT,
        image: IMAGE,
        network,
        files,
        ready: 'never',
        timeoutMs: LIMIT.wait,
        ...options,
      });
      await expect(starting).rejects.toThrow(
        /^Cannot start a lab: it has ended with status 1\n(?:.*\n)*.*curl\.cfg:2: attempt to index a nil value/,
      );
    } finally {
      // Refused as long as a container is there.
      await network.stop();
    }
  });

  it('says what is missing: an image, a script, a forward', async () => {
    await expect(startLab({ ...documented(), image: 'localhost:1/l4lab:none' })).rejects.toThrow(
      /there is no image "localhost:1\/l4lab:none": make it/,
    );
    await expect(startLab({ ...documented(), script: 'none.cfg' })).rejects.toThrow(/script must be a file/);
    await expect(
      startLab({
        ...documented(),
        forwards: { '10.0.2.100:80': 'nowhere:80' },
        ready: 'never',
      }),
    ).rejects.toThrow(/must know an IPv4 address of "nowhere"/);
  });
});
