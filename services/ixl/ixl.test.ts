import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { PciDevice } from './bringup/pci.ts';
import { countNics, ixlInit } from './ixl.ts';
import { CAP, type FakeDevice, FakeVbus, fakeNic, ICU } from './testing/fake_vbus.ts';
import { FakeLog } from './testing/fakes.ts';

let runDir: TestRunDir;
const arena = new Arena(2 ** 26);
beforeEach(() => {
  runDir = testRunDir();
});
afterEach(() => runDir[Symbol.dispose]());

/** Tries to start NIC `index`; the registers cannot be mapped, so it always fails somewhere. */
async function start(vbus: FakeVbus, index = 0, log = new FakeLog()): Promise<unknown> {
  const memories = new SharedMemories(runDir.path, arena);
  const doorbells = new Doorbells(runDir.path);
  const env = {
    ipc: vbus.ipc,
    arena,
    memories,
    doorbells,
    runDir: runDir.path,
    memAlloc: CAP,
    task: '0'.repeat(32),
  };
  try {
    return await ixlInit(CAP, index, { irqTimeoutMs: -1 }, env, log).then(
      () => 'started',
      (err: unknown) => err,
    );
  } finally {
    doorbells.close();
    memories.close();
  }
}

it('countNics() counts Ethernet controllers and nothing else', async () => {
  const disk = { ...fakeNic({ id: 0x7010_8086, classCode: 0x0101 }), name: 'IDE' };
  const count = (...devices: FakeDevice[]) => countNics(CAP, { ipc: new FakeVbus(devices).ipc });
  expect(await count(ICU, fakeNic(), disk, fakeNic({ id: 1 }))).toBe(2);
  expect(await count()).toBe(0);
});

describe('ixlInit()', () => {
  it('says what is on a bus without NIC', async () => {
    const disk = { ...fakeNic({ id: 0x7010_8086, classCode: 0x0101 }), name: 'IDE' };
    expect(await start(new FakeVbus([ICU, disk]))).toMatchObject({
      code: 'IXL_NO_NIC',
      message: expect.stringMatching(
        /no Ethernet controller .*"L4ICU" \(L40009\), "IDE" \(PCI 8086:7010, class 0101\)/,
      ),
    });
    expect(await start(new FakeVbus([]))).toMatchObject({
      message: expect.stringMatching(/no device at all/),
    });
  });

  it('refuses an index past the end', async () => {
    expect(await start(new FakeVbus([ICU, fakeNic()]), 1)).toMatchObject({
      code: 'IXL_NO_SUCH_INDEX',
      message: expect.stringMatching(/index must be 0\.\.0: the vbus has/),
    });
  });

  it.each([
    [0x10d3_8086, /Unsupported device 10d3 of vendor 8086\. No suitable driver found\./],
    [0x1521_8086, /needs driver igb/],
    [0x8139_10ec, /Unknown vendor 10ec/],
  ])('refuses a NIC with id %i', async (id, message) => {
    expect(await start(new FakeVbus([fakeNic({ id })]))).toMatchObject({
      code: 'IXL_UNSUPPORTED',
      message: expect.stringMatching(message),
    });
  });

  it('makes the NIC bus master, sizes BAR0, restores it and maps it', async () => {
    const vbus = new FakeVbus([ICU, fakeNic()]);
    const log = new FakeLog();
    expect(await start(vbus, 0, log)).toMatchObject({ code: 'L4_ERANGE' });
    expect(log.lines).toEqual(['[INFO ] Trying e1000...']);
    expect(vbus.calls).toEqual([
      'write 0x4 0x4',
      'write 0x10 0xffffffff',
      'write 0x10 0xfebc0000',
      'map 0xfebc0000 0x20000',
    ]);
  });

  it('refuses plain memory in place of registers', async () => {
    const vbus = new FakeVbus([ICU, fakeNic()]);
    vbus.mapReply = () => ({
      kind: 0,
      memory: { name: '0'.repeat(32), size: 4096, writable: true },
      offset: 0,
    });
    expect(await start(vbus)).toMatchObject({ code: 'L4_EBADPROTO' });
  });

  it('refuses an I/O BAR', async () => {
    expect(await start(new FakeVbus([fakeNic({ bar0: 0xc001 })]))).toMatchObject({
      message: expect.stringMatching(/BAR0 must be memory: current value is 0xc001/),
    });
  });

  it('checks its options', async () => {
    const env = { ipc: new FakeVbus([]).ipc } as Parameters<typeof ixlInit>[3];
    await expect(ixlInit(CAP, 0, { rxBuffers: 100 }, env)).rejects.toThrow(/rxBuffers must be 512\.\.65536/);
  });
});

describe('PciDevice', () => {
  it('sizes a 64-bit BAR by its lower half and keeps the upper one', async () => {
    const nic = fakeNic({ bar0: 0xe000_0004 });
    nic.config?.set(0x14, 0x2);
    const vbus = new FakeVbus([nic]);
    const pci = new PciDevice(vbus.client, 1, 'NIC', 2);
    expect(await pci.bar0()).toEqual({ address: 0x2_e000_0000, size: 0x20000 });
  });

  it('does not follow a capability list that loops', async () => {
    const nic = fakeNic();
    nic.config?.set(0x04, 0x0010_0000);
    nic.config?.set(0x34, 0x40);
    nic.config?.set(0x40, 0x4001);
    const vbus = new FakeVbus([nic]);
    const pci = new PciDevice(vbus.client, 1, 'NIC', 2);
    expect(await pci.findCapability(0x05)).toBe(0);
    expect(await pci.findCapability(0x01)).toBe(0x40);
  });

  it('says what is missing when there is no DMA domain', async () => {
    const vbus = new FakeVbus([fakeNic({ dma: false })]);
    const pci = new PciDevice(vbus.client, 1, 'NIC', 1);
    await expect(pci.dmaDomain()).rejects.toMatchObject({ code: 'IXL_NO_DMA_DOMAIN' });
  });
});
