import { describe, expect, it } from 'vitest';
import { busOver, testBus } from '../testing/bus.ts';
import { E1000, FakeIcu, I350 } from '../testing/fake_machine.ts';
import { VirtualIcu } from './icu.ts';
import { Interrupts, withMsiFlag } from './interrupts.ts';

const [A, B] = [{ name: 'a' }, { name: 'b' }];
const MSI = withMsiFlag;

async function setup(numMsis = 3, functions = [E1000]) {
  const machine = new FakeIcu();
  const interrupts = new Interrupts(machine);
  const { bus, hardware, log, lines } = await testBus(functions, numMsis);
  const other = new VirtualIcu(busOver(hardware, numMsis, 'other'), interrupts, log);
  return { machine, icu: new VirtualIcu(bus, interrupts, log), other, lines };
}

const errno = (number: number) => expect.objectContaining({ errno: number });

describe('VirtualIcu.info()', () => {
  it('always has the MSI flag, the highest interrupt + 1 and num_msis', async () => {
    const { icu } = await setup(25, [E1000, I350(1)]);
    expect(icu.info()).toEqual({ features: 0x80000000, nrIrqs: 12, nrMsis: 25 });
    const { icu: none } = await setup(0, []);
    expect(none.info()).toEqual({ features: 0x80000000, nrIrqs: 0, nrMsis: 0 });
  });
});

describe('VirtualIcu.bind()', () => {
  it('waits for what the driver before has left to be unbound', async () => {
    const { icu, machine } = await setup();
    icu.info();
    machine.nrMsis = 1;
    await icu.bind(11, A, 'old');
    await icu.bind(MSI(0), A, 'old');
    let unbind = () => {};
    const slow = new Promise<void>((resolve) => {
      unbind = resolve;
    });
    machine.unbind = async (irq) => {
      await slow;
      machine.bound.delete(irq);
    };
    const released = icu.release('old');
    const bound = Promise.all([icu.bind(11, B, 'new'), icu.bind(MSI(0), B, 'new')]);
    unbind();
    expect(await bound).toEqual([0, 1]);
    await released;
    expect([...machine.bound.values()]).toEqual(['b', 'b']);
  });

  it('binds a wired interrupt of the bus: unmask at the object', async () => {
    const { icu, machine } = await setup();
    expect(await icu.bind(11, A, 't')).toBe(0);
    expect(machine.bound).toEqual(new Map([[11, 'a']]));
  });

  it('binds MSIs to free MSIs of the machine: unmask through the ICU', async () => {
    const { icu, other, machine } = await setup();
    icu.info();
    other.info();
    expect(await icu.bind(MSI(2), A, 't')).toBe(1);
    expect(await other.bind(MSI(2), B, 'u')).toBe(1);
    expect([...machine.bound.keys()]).toEqual([MSI(0), MSI(1)]);
  });

  const refused: [what: string, irq: number, number: number, text: RegExp][] = [
    ['an interrupt that no device has', 5, 2, /no device of the bus has it: the bus has 11$/],
    ['an MSI index beyond num_msis', MSI(3), 2, /Property\.num_msis of the bus is 3$/],
  ];
  it.each(refused)('refuses %s', async (_what, irq, number, text) => {
    const { icu } = await setup();
    icu.info();
    await expect(icu.bind(irq, A, 't')).rejects.toMatchObject({
      errno: number,
      message: expect.stringMatching(text),
    });
  });

  it('refuses MSIs before info() was called, and on a bus without num_msis', async () => {
    const { icu } = await setup();
    await expect(icu.bind(MSI(0), A, 't')).rejects.toMatchObject({
      errno: 2,
      message: expect.stringContaining('after a call of info'),
    });
    const { icu: none } = await setup(0);
    none.info();
    await expect(none.bind(MSI(0), A, 't')).rejects.toThrow(
      /num_msis of the bus is 0, set it in the vbus file/,
    );
  });

  it('refuses a second binding and a missing object', async () => {
    const { icu } = await setup();
    await icu.bind(11, A, 't');
    await expect(icu.bind(11, B, 't')).rejects.toEqual(errno(1));
    await expect(icu.bind(11, undefined, 't')).rejects.toEqual(errno(22));
  });

  it('refuses an interrupt that another bus has, until that one lets it go', async () => {
    const { icu, other } = await setup();
    await icu.bind(11, A, 't');
    await expect(other.bind(11, B, 'u')).rejects.toMatchObject({
      errno: 16,
      code: 'IO_IRQ_SHARED',
      message: expect.stringContaining("vbus 'ethdevs' uses it"),
    });
    await icu.unbind(11);
    expect(await other.bind(11, B, 'u')).toBe(0);
  });

  it('passes the refusal of the machine on and stays unbound', async () => {
    const { icu, machine } = await setup();
    machine.bound.set(11, 'somebody');
    await expect(icu.bind(11, A, 't')).rejects.toEqual(errno(1));
    machine.bound.clear();
    expect(await icu.bind(11, A, 't')).toBe(0);
  });

  it('tells that all MSIs of the machine are in use', async () => {
    const { icu, machine } = await setup();
    machine.nrMsis = 1;
    icu.info();
    await icu.bind(MSI(0), A, 't');
    await expect(icu.bind(MSI(1), B, 't')).rejects.toEqual(errno(12));
  });

  it('tells that Io has no interrupt controller', async () => {
    const { bus, log } = await testBus([E1000]);
    const icu = new VirtualIcu(bus, new Interrupts(undefined), log);
    await expect(icu.bind(11, A, 't')).rejects.toMatchObject({
      errno: 19,
      message: expect.stringContaining('icu = L4.Env.icu'),
    });
  });
});

describe('VirtualIcu.unbind() and release()', () => {
  it('refuses what is not there or not bound', async () => {
    const { icu } = await setup();
    await expect(icu.unbind(5)).rejects.toEqual(errno(2));
    await expect(icu.unbind(11)).rejects.toEqual(errno(22));
  });

  it('frees everything of a task that is gone and nothing else', async () => {
    const { icu, machine } = await setup();
    icu.info();
    await icu.bind(11, A, 'gone');
    await icu.bind(MSI(0), A, 'gone');
    await icu.bind(MSI(1), B, 'stays');
    await icu.release('gone');
    expect([...machine.bound.values()]).toEqual(['b']);
    expect(await icu.bind(11, A, 'again')).toBe(0);
  });

  it('undoes a binding whose task went while the machine was busy', async () => {
    const { icu, machine } = await setup();
    const binding = icu.bind(11, A, 'gone');
    await icu.release('gone');
    await binding;
    expect(machine.bound.size).toBe(0);
    expect(await icu.bind(11, A, 'again')).toBe(0);
  });
});

describe('VirtualIcu.msiInfo()', () => {
  it('asks the machine with its own number and the requester id of the device', async () => {
    const { icu } = await setup();
    icu.info();
    await icu.bind(MSI(2), A, 't');
    expect(await icu.msiInfo(MSI(2), 3)).toEqual({ address: 0xfee00000 + 0x18, data: 0 });
  });

  it('refuses a number without flag, an index beyond the limit, a source that is no PCI device, and the unbound', async () => {
    const { icu } = await setup();
    icu.info();
    await expect(icu.msiInfo(2, 3)).rejects.toEqual(errno(22));
    await expect(icu.msiInfo(MSI(3), 3)).rejects.toEqual(errno(22));
    await expect(icu.msiInfo(MSI(0), 1)).rejects.toEqual(errno(19));
    await expect(icu.msiInfo(MSI(0), 9)).rejects.toEqual(errno(19));
    await expect(icu.msiInfo(MSI(0), 3)).rejects.toEqual(errno(2));
  });
});

describe('VirtualIcu.setMode() and unmask()', () => {
  it('ignores modes of MSIs and of interrupts with a mode of their own, with a warning', async () => {
    const { icu, machine, lines } = await setup();
    await icu.setMode(MSI(0), 1);
    await icu.setMode(11, 7);
    await icu.setMode(11, 1);
    expect(machine.modes).toEqual([]);
    expect(lines).toEqual([
      'Setting mode for MSI is useless, ignoring',
      'WARNING: Changing type of IRQ 11 from 7 to 1 prohibited',
    ]);
    await expect(icu.setMode(5, 1)).rejects.toEqual(errno(2));
  });

  it('unmasks what is bound, by the number of the machine', async () => {
    const { icu, machine } = await setup();
    icu.info();
    await icu.bind(MSI(2), A, 't');
    await icu.unmask(MSI(2));
    await icu.unmask(11);
    expect(machine.unmasked).toEqual([MSI(0)]);
  });
});
