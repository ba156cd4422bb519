/** The container image: what is in it, and the documented example inside one confined container. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directoryPage } from '../../services/web/site.ts';
import { BASE, buildImage, CONFINED, Containers, dockerOk, IMAGE, LIMIT, whyNoContainers } from './docker.ts';

/** What the image may add to its base: 13 MB today, of which the libraries of Debian are 5. */
const LARGEST_ADDITION = 16e6;
const WEB_PORT = 8099;
/** The documented script needs no change: its mirror is the web server on the container's own loopback. */
const EXAMPLE = [
  'run',
  'deploy/labs/curl/curl.cfg',
  '--host',
  'ftp.de.debian.org=10.0.2.100',
  '--guest-forward',
  `10.0.2.100:80=127.0.0.1:${WEB_PORT}`,
];

const reason = await whyNoContainers();
if (reason) console.warn(`test/containers: skipped as ${reason}`);

describe.skipIf(reason)('container image', { timeout: LIMIT.test }, () => {
  const containers = new Containers();
  let web: string;

  beforeAll(async () => {
    await buildImage();
    web = await containers.start(
      [...CONFINED, '--entrypoint', 'node'],
      ['dist/services/web/main.js', `${WEB_PORT}`],
    );
    await containers.saw(web, 'listening');
  }, LIMIT.build);
  afterAll(() => containers.close(), LIMIT.wait);

  /** Options of a container whose loopback is the web server's: still without any network. */
  function besideWeb(): string[] {
    return [...CONFINED.slice(0, -1), `container:${web}`];
  }

  it('adds little to its base image', async () => {
    const sizes = await dockerOk('image', 'inspect', '--format', '{{.Size}}', IMAGE, BASE);
    const [size = 0, base = 0] = sizes.split('\n').map(Number);
    expect(size - base).toBeLessThan(LARGEST_ADDITION);
  });

  it('runs as a user of its own and declares no volume', async () => {
    const config = JSON.parse(await dockerOk('image', 'inspect', '--format', '{{json .Config}}', IMAGE));
    expect(config).toMatchObject({ User: '10001:10001', Entrypoint: ['l4lab'] });
    expect(config.Volumes ?? {}).toEqual({});
    const { stdout } = await containers.run([...CONFINED, '--entrypoint', 'id'], ['-u']);
    expect(stdout).toBe('10001\n');
  });

  it('has neither development packages nor binaries of other platforms', async () => {
    const find =
      'find node_modules -maxdepth 1 -mindepth 1 -printf "%f\\n"; find . -name "*.node" -o -name "*.ts"';
    const { stdout } = await containers.run([...CONFINED, '--entrypoint', 'sh'], ['-c', find]);
    const found = stdout.trim().split('\n');
    for (const name of ['commander', 'koffi', 'protobufjs', 'wasmoon', 'zeromq'])
      expect(found).toContain(name);
    for (const name of ['typescript', 'vitest', '@biomejs', '@types']) expect(found).not.toContain(name);
    expect(found.filter((name) => name.endsWith('.node'))).toHaveLength(2);
    expect(found.filter((name) => name.endsWith('.ts'))).toEqual([]);
  });

  it('l4lab runs the documented example with a read-only root, without capabilities and network', async () => {
    const { status, stdout, stderr } = await containers.run(
      [...besideWeb(), '--tmpfs', '/run/l4lab'],
      [...EXAMPLE, '--wait-for', 'curl', '--raw', 'curl'],
    );
    expect(stdout, stderr).toBe(directoryPage('/debian/'));
    expect(status).toBe(0);
    expect(stderr).toContain('IP address: 10.0.2.15');
  });

  it('l4lab runs for any user that the container is started as', async () => {
    const { status, stdout } = await containers.run(
      [...besideWeb(), '--tmpfs', '/run/l4lab', '--user', '23456'],
      [...EXAMPLE, '--wait-for', 'curl', '--raw', 'curl'],
    );
    expect(stdout).toBe(directoryPage('/debian/'));
    expect(status).toBe(0);
  });

  it('docker stop ends the lab in order, with the status of SIGTERM', async () => {
    const lab = await containers.start([...besideWeb(), '--tmpfs', '/run/l4lab'], EXAMPLE);
    await containers.saw(lab, '</html>');
    expect(await containers.stop(lab)).toBe(143);
  });

  it('a tmpfs that is too small gives a sentence, and the container goes on', async () => {
    const { status, stdout } = await containers.run(
      [...besideWeb(), '--tmpfs', '/run/l4lab:size=4m'],
      [...EXAMPLE, '--wait-for', 'ixl'],
    );
    expect(stdout).toMatch(
      /Cannot create a dataspace of \d+ bytes as the file system of \/run\/l4lab\/\S+ is full/,
    );
    expect(status).toBe(1);
  });

  it('nothing is left when the containers have ended', async () => {
    expect(await containers.stop(web)).toBe(0);
    expect(await containers.left()).toEqual([]);
  });
});
