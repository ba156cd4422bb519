// openNetwork() over real capabilities, shared memory and doorbells: a virtio-net device with a user network behind it.
import { readdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { L4Error } from '#common/ipc/errors';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { type Network, type NetworkEnv, openNetwork } from './index.ts';
import { FarEnd, party } from './testing/far_end.ts';
import { event, until } from './testing/host.ts';

let dir: TestRunDir;
let guest: ReturnType<typeof party>;
let far: FarEnd | undefined;
let network: Network | undefined;
let lines: string[] = [];

// lwIP has one state per process, so all tests share the task's memory.
beforeAll(() => {
  dir = testRunDir();
  guest = party(dir.path, 'd');
});

beforeEach(() => {
  lines = [];
});

afterEach(async () => {
  await network?.close();
  far?.close();
  network = far = undefined;
  expect([...readdirSync(join(dir.path, 'm')), ...readdirSync(join(dir.path, 'b'))]).toEqual([]);
});

afterAll(() => {
  guest.ipc.close();
  dir[Symbol.dispose]();
});

const MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 0x77);

async function open(
  environment: Record<string, string>,
  files: Record<string, string> = {},
  mac: Uint8Array | null = MAC,
) {
  far = new FarEnd(dir.path, mac === null ? {} : { mac });
  const cap = await far.serve();
  network = await openNetwork(env(environment, files, { virtnet: cap }));
  return network;
}

/** A network must not get into an assertion's message: printing it would read the arena's unmapped pages. */
const close = (opened: Network) => opened.close();

function env(
  environment: Record<string, string>,
  files: Record<string, string>,
  caps: Record<string, Awaited<ReturnType<FarEnd['serve']>> | undefined>,
): NetworkEnv {
  const output = {
    write: async (text: string | Uint8Array) => void lines.push(...String(text).trimEnd().split('\n')),
  };
  return {
    ...guest,
    name: 'curl',
    environment: new Map(Object.entries(environment)),
    capNames: Object.keys(caps),
    caps: new Map(Object.entries(caps).flatMap(([name, cap]) => (cap ? [[name, cap]] : []))),
    files: {
      read: async (path: string) => {
        const text = files[path];
        if (text === undefined) throw new L4Error('ENOENT', `no ${path}`);
        return Buffer.from(text);
      },
    },
    external: false,
    signal: new AbortController().signal,
    stdout: output,
    stderr: output,
  };
}

describe('openNetwork()', () => {
  it('configures by DHCP, prints what L4Re prints, and carries HTTP', async () => {
    const { interfaces, agent } = await open({ IFCONFIG_IP4_vn0: 'dhcp', IFCONFIG_IP4_eth0: 'dhcp' });
    const [netif] = interfaces;
    expect(lines).toEqual([
      `Warning: IFCONFIG_IP4_eth0 is ignored as interface "eth0" does not exist: there are ${netif?.name}`,
      'Waiting for DHCP to configure interfaces...',
      `Interface '${netif?.name}' configured via DHCP:`,
      '  IP address: 10.0.2.15',
      '  Netmask: 255.255.255.0',
      '  Gateway: 10.0.2.2',
    ]);
    expect([...(netif?.mac ?? [])]).toEqual([...MAC]);
    const server = http
      .createServer((_, response) => response.end(Buffer.alloc(4 * 2 ** 20, 'p')))
      .listen(0, '127.0.0.1');
    await event(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const request = http.get({ host: '10.0.2.2', port, agent: agent.call(network) });
    const response = await event<http.IncomingMessage>(request, 'response');
    let length = 0;
    for await (const chunk of response) length += (chunk as Buffer).length;
    expect(length).toBe(4 * 2 ** 20);
    server.close();
  });

  it('notices that its device had no receive buffer left, once', async () => {
    const [netif] = (await open({ IFCONFIG_IP4_vn0: '10.0.2.15/24' })).interfaces;
    const lost = () => netif?.counters.rxLost;
    expect(lost()).toBe(0);
    for (const times of [1, 2]) {
      far?.exhaust();
      // Again and again from the event loop, in which the interface polls.
      while (lost() !== times || far?.offered === 0) await new Promise(setImmediate);
    }
    expect(lost()).toBe(2);
  });

  it('configures statically and makes a MAC where the device has none', async () => {
    const { interfaces } = await open({ IFCONFIG_IP4_vn0: '10.0.2.15/24 via 10.0.2.2' }, {}, null);
    const [netif] = interfaces;
    expect(lines).toEqual([
      "Interface 'vn0' configured statically:",
      '  IP address: 10.0.2.15',
      '  Netmask: 255.255.255.0',
      '  Gateway: 10.0.2.2',
    ]);
    expect([...(netif?.mac ?? [])]).toEqual([2, 0, 0, 0, 0, 1]);
  });

  it('refuses a variable it cannot read and gives the device back', async () => {
    await expect(open({ IFCONFIG_IP4_vn0: '10.0.2' }).then(close)).rejects.toThrow(
      /IFCONFIG_IP4_vn0 must be .*current value is "10\.0\.2"/,
    );
  });

  it('gives up on DHCP after IFCONFIG_DHCP_TIMEOUT', async () => {
    far = new FarEnd(dir.path, { mac: MAC });
    far.slirp.lose = () => true;
    const cap = await far.serve();
    const opened = openNetwork(
      env({ IFCONFIG_IP4_vn0: 'dhcp', IFCONFIG_DHCP_TIMEOUT: '0.2' }, {}, { virtnet: cap }),
    );
    await expect(opened.then(close)).rejects.toThrow(
      /no DHCP server gave a lease within 0\.2 s: 1 DISCOVER sent, nothing came back\./,
    );
  });

  it('is there at once without any virtnet* capability, and says what is missing', async () => {
    network = await openNetwork(env({ IFCONFIG_IP4_vn0: 'dhcp' }, {}, { log: undefined }));
    expect(network.interfaces).toEqual([]);
    const err = await event<Error>(network.connect({ host: '10.0.2.2', port: 80 }), 'error');
    expect(err).toMatchObject({
      code: 'ENETUNREACH',
      message: expect.stringMatching(/no capability whose name starts with virtnet/),
    });
  });

  it('refuses a server end by name', async () => {
    await expect(openNetwork(env({}, {}, { virtnet: undefined })).then(close)).rejects.toThrow(
      /"virtnet" as it must be the client end/,
    );
  });

  it('ends connections and explains later ones when the device fails', async () => {
    const opened = await open({ IFCONFIG_IP4_vn0: 'dhcp' });
    const server = net.createServer(() => {}).listen(0, '127.0.0.1');
    await event(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const socket = opened.connect({ host: '10.0.2.2', port });
    await event(socket, 'connect');
    const broken = event<Error>(socket, 'error');
    far?.fail();
    expect(await broken).toMatchObject({
      code: 'ENETDOWN',
      message: expect.stringMatching(/the network interface died/),
    });
    const later = await event<Error>(opened.connect({ host: '10.0.2.2', port }), 'error');
    expect(later).toMatchObject({
      code: 'ENETDOWN',
      message: expect.stringMatching(/interface vn0 is dead: The device behind "virtnet"/),
    });
    server.close();
  });

  it('keeps its connections when the device is started again, and every receive buffer', async () => {
    const opened = await open({ IFCONFIG_IP4_vn0: 'dhcp' });
    const [netif] = opened.interfaces;
    const echo = net.createServer((peer) => peer.pipe(peer)).listen(0, '127.0.0.1');
    await event(echo, 'listening');
    const { port } = echo.address() as net.AddressInfo;
    const socket = opened.connect({ host: '10.0.2.2', port });
    await event(socket, 'connect');
    const offered = far?.offered as number;
    const received: Buffer[] = [];
    socket.on('data', (data: Buffer) => received.push(data));
    for (let round = 1; round <= 3; round++) {
      // In flight when the device goes: both ways it is sent again.
      const sent = Buffer.alloc(100_000, round);
      socket.write(sent);
      await far?.startAgain();
      await until(() => received.reduce((sum, { length }) => sum + length, 0) >= sent.length);
      expect(Buffer.concat(received.splice(0)).equals(sent)).toBe(true);
    }
    expect(netif?.held).toBe(0);
    await until(() => far?.offered === offered);
    expect(lines.filter((line) => /^virtnet is back after \d+ ms/.test(line))).toHaveLength(3);
    expect(netif?.failure).toBeUndefined();
    socket.destroy();
    echo.close();
  }, 60_000);

  it.each([false, true])(
    'comes up when the device is started again during its set-up (patient: %s)',
    async (external) => {
      far = new FarEnd(dir.path, { mac: MAC });
      const cap = await far.serve();
      far.startAgainDuringSetUp();
      network = await openNetwork({ ...env({ IFCONFIG_IP4_vn0: 'dhcp' }, {}, { virtnet: cap }), external });
      expect(lines).toContain('  IP address: 10.0.2.15');
    },
  );

  it('takes name servers from DHCP without resolv.conf and says so', async () => {
    const opened = await open({ IFCONFIG_IP4_vn0: 'dhcp' }, { '/etc/hosts': '10.0.2.2 gateway' });
    expect(await opened.resolver.resolve('gateway')).toEqual([{ address: '10.0.2.2', family: 4 }]);
    lines = [];
    const lookup = opened.resolver.resolve('host.invalid').catch((err) => err.code);
    await until(() => lines.length > 0);
    expect(lines).toEqual(['Note: there is no /etc/resolv.conf; using the name servers from DHCP: 10.0.2.3']);
    void lookup;
  });
});
