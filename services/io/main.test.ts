/** The program over real capability calls, in one process: fake machine, Io, and a client of its vbus. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import { gatePath, Ipc } from '#common/ipc/ipc';
import { bind } from '#common/ipc/service';
import type { TaskEnv } from '#common/task/env';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Dataspace, Icu, Inhibitor, Iommu, Meta, PciHost, Vbus } from '../../proto/gen/services.js';
import { main } from './main.ts';
import type { CfgWidth, PciAddress } from './pci/function.ts';
import { E1000, FakeDma, FakeIcu, FakeMemory, FakePci, HOST_BRIDGE } from './testing/fake_machine.ts';

const LAB = readFileSync(new URL('../../deploy/labs/curl/ixl.vbus', import.meta.url), 'utf8');
const [MACHINE, IO, DRIVER, SECOND] = ['m', 'i', 'd', 'e'].map((letter) => letter.repeat(32)) as [
  string,
  string,
  string,
  string,
];

let dir: TestRunDir;
let ipcs: Ipc[];
let stop: AbortController;
let running: Promise<number> | undefined;
let output: string[];
const icu = { machine: new FakeIcu() };

function task(id: string): Ipc {
  const ipc = new Ipc({ runDir: dir.path, task: id });
  ipcs.push(ipc);
  return ipc;
}

beforeEach(() => {
  dir = testRunDir();
  ipcs = [];
  output = [];
  stop = new AbortController();
  running = undefined;
  icu.machine = new FakeIcu();
});
afterEach(async () => {
  stop.abort();
  await running;
  for (const ipc of ipcs) ipc.close();
  dir[Symbol.dispose]();
});

/** Serves the fake machine's three objects. */
async function startMachine(): Promise<Record<'sigma0' | 'icu' | 'iommu', Capability>> {
  const ipc = task(MACHINE);
  const pci = new FakePci([HOST_BRIDGE, E1000]);
  const [memory, dma] = [new FakeMemory(), new FakeDma()];
  const serve = async (
    bindings: Parameters<Awaited<ReturnType<Ipc['serve']>>['setRoot']>[0],
  ): Promise<Capability> => {
    const end = createGate();
    (await ipc.serve(end)).setRoot(bindings);
    return rootCapability(end);
  };
  const { machine } = icu;
  return {
    sigma0: await serve([
      bind(PciHost, {
        cfgRead: async ({ address, offset, width }) => ({
          value: await pci.read(address as PciAddress, offset, width as CfgWidth),
        }),
        cfgWrite: async ({ address, offset, width, value }) => {
          await pci.write(address as PciAddress, offset, width as CfgWidth, value);
          return {};
        },
        cfgSequence: async ({ address, steps }) => ({
          values: await pci.sequence(
            address as PciAddress,
            steps.map(({ offset, width, value }) => ({
              offset: offset ?? 0,
              width: width as CfgWidth,
              ...(typeof value === 'number' ? { value } : {}),
            })),
          ),
        }),
        route: async ({ address }) => {
          const route = await pci.route(address as PciAddress);
          if (route === undefined) throw new L4Error('ENOENT', 'no such pin');
          return route;
        },
      }),
      bind(Dataspace, {
        info: () => ({ size: 2 ** 32, writable: true }),
        map: ({ offset, size }) => memory.map(offset, size),
        copyOut: () => ({}),
      }),
    ]),
    icu: await serve([
      bind(Icu, {
        info: () => machine.info(),
        bind: async ({ irq, object }) => ({
          unmaskViaIcu: await machine.bind(irq, { name: object?.name ?? '' }),
        }),
        unbind: async ({ irq }) => {
          await machine.unbind(irq);
          return {};
        },
        msiInfo: ({ irq, source }) => machine.msiInfo(irq, source),
        setMode: () => ({}),
        unmask: () => ({}),
        mask: () => ({}),
      }),
    ]),
    iommu: await serve([
      bind(Iommu, {
        assign: async ({ requester, dmaSpace, bind: into }) => {
          await dma.assign(requester, String(dmaSpace?.gate), into);
          return {};
        },
      }),
    ]),
  };
}

interface Start {
  argv?: string;
  caps?: Record<string, Capability>;
  serverEnds?: Record<string, ServerEnd>;
  files?: Record<string, string>;
  external?: boolean;
}

function startIo({
  argv = 'rom/io rom/ixl.vbus',
  caps = {},
  serverEnds = {},
  files = { 'rom/ixl.vbus': LAB },
  external = false,
}: Start): Promise<number> {
  const write = async (data: string | Uint8Array): Promise<void> => void output.push(String(data).trimEnd());
  const env = {
    name: 'io',
    argv: argv.split(' '),
    caps: new Map(Object.entries(caps)),
    serverEnds: new Map(Object.entries(serverEnds)),
    capNames: [...Object.keys(caps), ...Object.keys(serverEnds)],
    ipc: task(IO),
    files: {
      read: async (path: string) => {
        const text = files[path];
        if (text === undefined) throw new L4Error('ENOENT', `no ${path} in rom`);
        return Buffer.from(text);
      },
    },
    external,
    signal: stop.signal,
    stdout: { write },
    stderr: { write },
  };
  running = main(env as unknown as TaskEnv);
  return running;
}

describe('io', () => {
  it('serves the vbus of the lab as a driver uses it', async () => {
    const end = createGate();
    const vbus = rootCapability(end);
    startIo({ caps: await startMachine(), serverEnds: { ethdevs: end } });
    const driver = task(DRIVER);
    const bus = driver.client(Vbus, vbus);
    const handles: number[] = [];
    for (let current = -1; current < 3; current = handles.at(-1) as number) {
      handles.push((await bus.getNext({ handle: 0, current, depth: 100 })).handle);
    }
    expect(handles).toEqual([1, 2, 3]);
    expect(output).toEqual(['Io service', 'Ready. Waiting for requests.']);
    expect((await bus.pciCfgRead({ handle: 3, offset: 8, width: 32 })).value).toBe(0x02000003);
    await bus.pciCfgWrite({ handle: 3, offset: 0x10, width: 32, value: 0xffffffff });
    expect((await bus.pciCfgRead({ handle: 3, offset: 0x10, width: 32 })).value).toBe(0xfffe0000);
    expect(await driver.client(Dataspace, vbus).map({ offset: 0xfebc0000, size: 0x20000 })).toMatchObject({
      kind: 1,
    });
    expect(await bus.getResource({ handle: 3, index: 4 })).toMatchObject({
      type: 6,
      start: 24,
      end: 24,
      provider: 3,
    });
    await bus.assignDmaDomain({ handle: 0, domain: 24, flags: 1, dmaSpace: vbus });
    await expect(bus.getNext({ handle: 0, current: 3, depth: 100 })).rejects.toMatchObject({ errno: 19 });
    expect((await driver.client(Inhibitor, vbus).nextLockInfo({ id: -1 })).name).toBe('suspend');
  });

  it('lets a driver that was started again bind its interrupt', async () => {
    const end = createGate();
    const vbus = rootCapability(end);
    startIo({ caps: await startMachine(), serverEnds: { ethdevs: end } });
    const icuOf = async (id: string) => {
      const driver = task(id);
      const { capability } = await driver.client(Vbus, vbus).vicuGetCap({ handle: 1 });
      return driver.client(Icu, capability as Capability);
    };
    const first = await icuOf(DRIVER);
    expect(await first.info()).toMatchObject({ features: 0x80000000, nrIrqs: 12, nrMsis: 25 });
    await first.bind({ irq: 11, object: { name: 'bell-1' } });
    const second = await icuOf(SECOND);
    await expect(second.bind({ irq: 11, object: { name: 'bell-2' } })).rejects.toMatchObject({ errno: 1 });
    await task(MACHINE).client(Meta, vbus).taskGone({ task: DRIVER });
    await second.bind({ irq: 11, object: { name: 'bell-2' } });
    expect(icu.machine.bound.get(11)).toBe('bell-2');
    await expect(first.info()).rejects.toMatchObject({ code: 'IPC_OBJECT_GONE' });
  });

  it('answers an unknown channel with an error instead of letting its callers wait', async () => {
    const end = createGate();
    startIo({ caps: await startMachine(), serverEnds: { ethdev: end } });
    await expect(
      task(DRIVER).client(Vbus, rootCapability(end)).getDevice({ handle: 0 }),
    ).rejects.toMatchObject({ errno: 2, code: 'IO_NO_VBUS' });
    expect(output.filter((line) => line.startsWith('WARNING:'))).toHaveLength(2);
  });

  it('goes on behind a file with an error, and says where it is', async () => {
    const end = createGate();
    const files = { 'rom/bad.vbus': 'x = = 1', 'rom/worse.vbus': '\nwrap(1)', 'rom/ixl.vbus': LAB };
    const argv = 'rom/io rom/bad.vbus  rom/worse.vbus -vv rom/ixl.vbus --trace 2';
    startIo({ argv, files, caps: await startMachine(), serverEnds: { ethdevs: end } });
    await task(DRIVER).client(Vbus, rootCapability(end)).getDevice({ handle: 3 });
    const text = output.join('\n');
    expect(text).toContain(
      "rom/bad.vbus: error using as lua config: rom/bad.vbus:1: unexpected symbol near '='",
    );
    expect(text).toContain(
      'rom/worse.vbus: error executing lua config: rom/worse.vbus:2: expected device, got: 1',
    );
    expect(text).toContain('Set trace mask to 0x00000002');
    expect(text).toContain("WARNING: Service registration failed: 'x540devs'");
    expect(text).toContain("Loading: config 'rom/ixl.vbus'");
  });

  it('ends with status 1 when a file cannot be opened', async () => {
    expect(await startIo({ argv: 'rom/io rom/none.vbus', caps: await startMachine() })).toBe(1);
    expect(output.at(-1)).toBe('rom/none.vbus: cannot open/read file: no rom/none.vbus in rom');
  });

  it('ends with status 255 without sigma0', async () => {
    expect(await startIo({})).toBe(255);
    expect(output[1]).toMatch(
      /^FATAL uncaught exception: getting sigma0 cap: .* add `sigma0 = L4\.Env\.sigma0`/,
    );
    expect(output[2]).toBe('terminating...');
  });

  it('ends with status 255 when sigma0 is not the machine', async () => {
    const { icu: wrong } = await startMachine();
    expect(await startIo({ caps: { sigma0: wrong } })).toBe(255);
    expect(output.join('\n')).toMatch(
      /WARNING: Io has no capability "icu"[\s\S]*FATAL uncaught exception: scanning the PCI bus: .* implements l4lab\.Icu \(-39\)/,
    );
  });

  it('tells a DMA request when there is no iommu', async () => {
    const end = createGate();
    const vbus = rootCapability(end);
    const { sigma0, icu: controller } = await startMachine();
    startIo({ caps: { sigma0, icu: controller }, serverEnds: { ethdevs: end } });
    const assign = task(DRIVER)
      .client(Vbus, vbus)
      .assignDmaDomain({ handle: 0, domain: 24, flags: 1, dmaSpace: vbus });
    await expect(assign).rejects.toMatchObject({
      errno: 19,
      message: expect.stringContaining('iommu = L4.Env.iommu'),
    });
  });

  it('returns 0, and calls nothing fatal, when it is told to end while the machine is away', async () => {
    const end = createGate();
    writeFileSync(`${gatePath(dir.path, end.gate)}.dead`, 'gone\n');
    const ended = startIo({ caps: { sigma0: rootCapability(end) }, external: true });
    stop.abort();
    expect(await ended).toBe(0);
    expect(output.filter((line) => line.includes('FATAL'))).toEqual([]);
  });

  it('returns 0 when it is told to end', async () => {
    const ended = startIo({ caps: await startMachine() });
    stop.abort();
    expect(await ended).toBe(0);
  });
});
