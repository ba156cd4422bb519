import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import type { CfgWidth, PciFunction } from '../pci/function.ts';
import { testBus } from '../testing/bus.ts';
import { E1000, type FakeFunction, type FakePci, I350 } from '../testing/fake_machine.ts';
import { bridgeConfigSpace, dummyConfigSpace, ProxyConfigSpace } from './config_space.ts';

async function space(fn: FakeFunction): Promise<{ config: ProxyConfigSpace; pci: FakePci; lines: string[] }> {
  const { bus, pci, log, lines } = await testBus([fn]);
  return { config: new ProxyConfigSpace(bus.proxies[0]?.pci as PciFunction, pci, log), pci, lines };
}

/** The bytes [from, to) as 32-bit reads show them, in hex. */
async function dump(config: { read: ProxyConfigSpace['read'] }, from: number, to: number): Promise<string> {
  const bytes: string[] = [];
  for (let at = from; at < to; at += 4) {
    const dword = await config.read(at, 32);
    for (let shift = 0; shift < 32; shift += 8)
      bytes.push(((dword >>> shift) & 0xff).toString(16).padStart(2, '0'));
  }
  return bytes.join(' ');
}

describe('ProxyConfigSpace.read()', () => {
  it('shows the header of an e1000', async () => {
    const { config } = await space(E1000);
    expect(await dump(config, 0x00, 0x10)).toBe('86 80 0e 10 02 00 00 00 03 00 00 02 00 00 80 00');
    expect(await dump(config, 0x10, 0x28)).toBe(
      '00 00 bc fe 01 c0 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00',
    );
    expect(await dump(config, 0x28, 0x40)).toBe(
      '00 00 00 00 f4 1a 00 11 00 00 b8 fe 00 00 00 00 00 00 00 00 00 01 00 00',
    );
  });

  it('aligns an access down to its width', async () => {
    const { config } = await space(E1000);
    expect(await config.read(0x03, 16)).toBe(0x100e);
    expect(await config.read(0x02, 32)).toBe(0x100e8086);
    expect(await config.read(0x0e, 8)).toBe(0x80);
    expect(await config.read(0x0b, 8)).toBe(0x02);
  });

  it('shows BAR type bits', async () => {
    const { config } = await space(I350(0));
    expect(await config.read(0x1c, 32)).toBe(0x0000000c);
    expect(await config.read(0x20, 32)).toBe(8);
  });

  it('has virtual headers over physical capability contents', async () => {
    const { config } = await space(I350(0));
    expect(await config.read(0x34, 8)).toBe(0x40);
    expect(await config.read(0x40, 32)).toBe(0x48035001);
    expect(await config.read(0x44, 32)).toBe(0x00002008);
    expect(await config.read(0x52, 16)).toBe(0x0180);
    expect(await config.read(0xa1, 8)).toBe(0);
  });

  it('orders the capability list by offset, whatever the physical order', async () => {
    const { config } = await space({ ...E1000, firstCapability: 0x60, extra: { 80: 0x0001, 96: 0x5005 } });
    expect(await config.read(0x34, 8)).toBe(0x50);
    expect((await config.read(0x50, 16)) >>> 8).toBe(0x60);
    expect((await config.read(0x60, 16)) >>> 8).toBe(0);
  });

  it('hides SR-IOV and ACS behind an id that nobody knows', async () => {
    const { config } = await space(I350(0));
    expect(await config.read(0x100, 32)).toBe(0x16010001);
    expect(await config.read(0x104, 32)).toBe(0x12345678);
    expect(await config.read(0x160, 32)).toBe(0x1a0100fe);
    expect(await config.read(0x164, 32)).toBe(0xffffffff);
    expect(await config.read(0x1a0, 32)).toBe(0x000100fe);
    expect(await config.read(0x1a4, 16)).toBe(0xffff);
    expect(await config.read(0x1a8, 32)).toBe(0);
  });

  it('shows no extended capabilities for a function that is not PCI Express', async () => {
    const { config } = await space(E1000);
    expect(await config.read(0x100, 32)).toBe(0xffff);
    expect(await config.read(0x1000, 8)).toBe(0xff);
    expect(await config.read(0x8000_0000, 32)).toBe(0xffffffff);
  });
});

describe('ProxyConfigSpace.write()', () => {
  it('shows the size mask after all ones and never touches the physical BAR', async () => {
    const { config, pci } = await space(E1000);
    for (const [at, mask] of [
      [0x10, 0xfffe0000],
      [0x14, 0xffffffc1],
      [0x18, 0],
    ] as const) {
      const before = await config.read(at, 32);
      await config.write(at, 32, 0xffffffff);
      expect(await config.read(at, 32)).toBe(mask);
      await config.write(at, 32, before);
      expect(await config.read(at, 32)).toBe(before);
    }
    expect(pci.writes).toEqual([]);
  });

  it('sizes a 64-bit BAR by two registers', async () => {
    const { config } = await space(I350(0));
    await config.write(0x1c, 32, 0xffffffff);
    await config.write(0x20, 32, 0xffffffff);
    expect([await config.read(0x1c, 32), await config.read(0x20, 32)]).toEqual([0xffffc00c, 0xffffffff]);
  });

  it('writes single bytes of a BAR', async () => {
    const { config } = await space(E1000);
    await config.write(0x13, 8, 0x12);
    expect(await config.read(0x10, 32)).toBe(0x12bc0000);
    await config.write(0x10, 16, 0xffff);
    expect(await config.read(0x10, 32)).toBe(0x12bc0000);
  });

  it('passes the command register and clears status bits by ones only', async () => {
    const { config, pci } = await space(E1000);
    pci.configs.get(0x18)?.bytes.setUint16(6, 0xf910, true);
    await config.write(0x04, 16, 0x0006);
    expect(pci.writes).toEqual(['4/16=6']);
    await config.write(0x04, 32, 0x80000006);
    expect(pci.writes).toEqual(['4/16=6', '6/16=8000']);
    expect(await config.read(0x06, 16)).toBe(0x7910);
    await config.write(0x05, 8, 0x04);
    expect(await config.read(0x04, 16)).toBe(0x0406);
  });

  it('does not lose bits when commands overlap in time', async () => {
    const { config } = await space(E1000);
    await Promise.all([config.write(0x04, 8, 0x06), config.write(0x05, 8, 0x04)]);
    expect(await config.read(0x04, 16)).toBe(0x0406);
  });

  it('keeps a decoder off whose BAR has no address', async () => {
    const { config, lines } = await space({ ...E1000, bars: [{ index: 1, base: 0, size: 0x40, flags: 1 }] });
    await config.write(0x04, 16, 0x7);
    expect(await config.read(0x04, 16)).toBe(0x6);
    expect(lines).toContain('warning: could not set bars of 00:03.0, disable decoders');
  });

  it('ignores what is read-only', async () => {
    const { config, pci } = await space(I350(0));
    for (const at of [0x00, 0x08, 0x2c, 0x34, 0x38, 0x160, 0x164, 0x1a4, 0x1000, 0xffff_fffc])
      await config.write(at, 32, 0x5a5a5a5a);
    expect(pci.writes).toEqual([]);
  });

  it('passes capability contents but not the first two bytes', async () => {
    const { config, pci } = await space(I350(0));
    await config.write(0x50, 32, 0x00010000);
    await config.write(0x50, 16, 0xffff);
    await config.write(0x51, 8, 0xff);
    await config.write(0x52, 16, 0x81);
    await config.write(0x53, 8, 0x01);
    await config.write(0x54, 32, 0xfee00000);
    await config.write(0x104, 32, 1);
    expect(pci.writes).toEqual(['52/16=1', '52/16=81', '53/8=1', '54/32=fee00000', '104/32=1']);
  });

  it('emulates the ROM register and passes its enable bit', async () => {
    const { config, pci } = await space(E1000);
    await config.write(0x30, 32, 0xfffffffe);
    expect(await config.read(0x30, 32)).toBe(0xfffc0000);
    await config.write(0x30, 32, 0x10000001);
    expect(await config.read(0x30, 32)).toBe(0x10000001);
    expect(pci.writes.at(-1)).toBe('30/32=feb80001');
  });

  const access = fc.record({
    at: fc.nat(0xfff),
    width: fc.constantFrom<CfgWidth>(8, 16, 32),
    value: fc.nat(0xffffffff),
  });

  it('never writes a physical BAR, id or link, whatever the sequence', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(access, { maxLength: 30 }), async (accesses) => {
        const { config, pci } = await space(I350(0));
        for (const { at, width, value } of accesses) await config.write(at, width, value);
        const touched = pci.writes.map((write) => Number.parseInt(write, 16));
        const forbidden = (at: number): boolean =>
          at < 0x04 ||
          (at >= 0x08 && at < 0x0c) ||
          (at >= 0x10 && at < 0x28) ||
          [0x40, 0x41, 0x50, 0x70, 0xa0, 0x160, 0x170].includes(at);
        expect(touched.filter(forbidden)).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  it('a narrow read is the part of the wide one', async () => {
    const { config } = await space(I350(0));
    await fc.assert(
      fc.asyncProperty(access, async ({ at, width }) => {
        const aligned = at & ~(width / 8 - 1);
        const wide = await config.read(at & ~3, 32);
        const part = (wide >>> (8 * (aligned & 3))) & (width === 32 ? -1 : (1 << width) - 1);
        expect(await config.read(at, width)).toBe(part >>> 0);
      }),
    );
  });
});

describe('functions that exist only on the vbus', () => {
  it('dummy and bridge have ids, class and header type', async () => {
    expect(await dump(dummyConfigSpace(), 0, 0x14)).toBe(
      '00 04 00 02 00 00 00 00 00 00 44 36 00 00 80 00 00 00 00 00',
    );
    const bridge = bridgeConfigSpace(0, 1, 2);
    expect(await dump(bridge, 0, 0x1c)).toBe(
      '00 04 00 02 00 00 00 00 00 00 04 06 00 00 81 00 00 00 00 00 00 00 00 00 00 01 02 00',
    );
    await bridge.write(0x18, 32, 0xffffffff);
    expect(await bridge.read(0x19, 8)).toBe(1);
  });
});
