import { describe, expect, it } from 'vitest';
import { ICR_RXO, REG } from '#common/nic/e1000';
import { lengthOf } from '../ixl.ts';
import { frame, startE1000 } from '../testing/fakes.ts';

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('e1000 bring-up', () => {
  it('accesses the registers in the order of F5.4', async () => {
    const { nic, clock } = await startE1000();
    expect(nic.accesses).toEqual([
      'W IMC 0xffffffff',
      'W RCTL 0x0',
      'W TCTL 0x8',
      'R CTRL',
      'W CTRL 0x4000261',
      'W IMC 0xffffffff',
      'R ICR',
      'W EERD 0x1',
      'R EERD',
      'W EERD 0x101',
      'R EERD',
      'W EERD 0x201',
      'R EERD',
      'W RAL0 0x12005452',
      'W RAH0 0x80005634',
      'R GPRC',
      'R GPTC',
      'R GORCL',
      'R GORCH',
      'R GOTCL',
      'R GOTCH',
      'W RDBAL 0x8000000',
      'W RDBAH 0x1',
      'W RDLEN 0x1000',
      'W RDH 0x0',
      'W RDT 0xff',
      'R RXCSUM',
      'W RXCSUM 0x200',
      'W TDBAL 0x8001000',
      'W TDBAH 0x1',
      'W TDLEN 0x1000',
      'W TDH 0x0',
      'W TDT 0x0',
      'R RCTL',
      'W RCTL 0x8002',
      'R TCTL',
      'W TCTL 0x400fa',
      'W ITR 0x28',
      'W RDTR 0x0',
      'W IMS 0xd4',
      'R RCTL',
      'W RCTL 0x801a',
      'R STATUS',
    ]);
    expect(clock.sleeps).toEqual([10, 5, 1]);
  });

  it('prints the lines of F10.1', async () => {
    const { log } = await startE1000();
    expect(log.lines).toEqual([
      '[INFO ] Resetting E1000 device.',
      '[INFO ] Reset completed, starting init phase.',
      '[INFO ] Using MAC address 52:54:00:12:34:56',
      '[INFO ] enabling promisc mode',
      '[INFO ] Waiting for link...',
      '[INFO ] Link speed is 1000 Mbit/s',
    ]);
  });

  it('leaves interrupts alone when polling', async () => {
    const { nic, device } = await startE1000({ irqTimeoutMs: 0 });
    expect(nic.accesses.some((access) => /W (IMS|ITR|RDTR)/.test(access))).toBe(false);
    expect(device.irqMode).toBe('disable');
    expect(() => device.getRecvIrq(0)).toThrow(/must be "notify"/);
  });

  it('fails with a typed error when the EEPROM does not answer', async () => {
    const start = startE1000({}, (nic) => {
      nic.eepromAnswers = false;
    });
    await expect(start).rejects.toMatchObject({
      code: 'IXL_EEPROM',
      message: expect.stringMatching(/100 ms/),
    });
  });

  it('refuses more than one queue', async () => {
    await expect(startE1000({ numRxQueues: 2 })).rejects.toThrow(/exactly 1 receive/);
  });

  it('says so and goes on when the link stays down, and reports it when it comes', async () => {
    const { nic, log, clock, device } = await startE1000({ linkTimeoutMs: 10_000 }, (fake) => {
      fake.linkUp = false;
    });
    expect(clock.time).toBe(10_016);
    expect(log.lines.at(-1)).toMatch(/^\[ERROR\] Failed to bring up link!/);
    const speeds: number[] = [];
    device.onLinkChange((speed) => speeds.push(speed));
    nic.changeLink(true);
    expect(device.checkRecvIrq(0)).toBe(false);
    expect(log.lines.at(-1)).toBe('[INFO ] Link speed is 1000 Mbit/s');
    nic.changeLink(true);
    device.checkRecvIrq(0);
    nic.changeLink(false);
    device.checkRecvIrq(0);
    expect(speeds).toEqual([1000, 0]);
  });

  it('waits for the link in the background behind linkTimeoutMs', async () => {
    const { nic, log, clock, device } = await startE1000({ linkTimeoutMs: 300 }, (fake) => {
      fake.linkUp = false;
    });
    // 16 ms of reset, 300 in front, the first 100 behind the scenes.
    expect(clock.time).toBe(416);
    expect(log.lines.at(-1)).toBe('[WARN ] No link yet: going on without it.');
    nic.linkUp = true;
    for (let n = 0; n < 5; n++) await settle();
    expect(log.lines.at(-1)).toBe('[INFO ] Link speed is 1000 Mbit/s');
    await device.close();
  });
});

describe('e1000 interrupts', () => {
  it('fill no log, however often the device says that its link changes or its receiver overran', async () => {
    const { nic, log, device } = await startE1000();
    log.lines.length = 0;
    for (let n = 0; n <= 1000; n++) {
      nic.changeLink(n % 2 === 1);
      nic.set(REG.ICR, nic.get(REG.ICR) | ICR_RXO);
      device.checkRecvIrq(0);
    }
    for (const what of ['overrun', 'Link'])
      expect(log.lines.filter((line) => line.includes(what)).length).toBeLessThan(30);
    // What it has come to is said in the end.
    for (let n = 0; n < 5; n++) await settle();
    expect(log.lines.at(-1)).toBe('[WARN ] Link is down');
  });

  it('checkRecvIrq() masks and is true for RXT0 only', async () => {
    const { nic, device } = await startE1000();
    expect(device.checkRecvIrq(0)).toBe(false);
    nic.receive(frame(1));
    nic.accesses.length = 0;
    expect(device.checkRecvIrq(0)).toBe(true);
    expect(nic.accesses).toEqual(['R ICR', 'W IMC 0xffffffff']);
  });

  it('ackRecvIrq() unmasks the interrupt object, then the NIC', async () => {
    const { nic, device, irq } = await startE1000();
    const before = irq.unmasks;
    nic.accesses.length = 0;
    device.ackRecvIrq(0);
    expect(irq.unmasks).toBe(before + 1);
    expect(nic.accesses).toEqual(['W ITR 0x28', 'W RDTR 0x0', 'W IMS 0xd4']);
  });

  it('rebindRecvIrq() sends the interrupt to the new listener', async () => {
    const { nic, device } = await startE1000();
    let fired = 0;
    device.rebindRecvIrq(0, () => {
      fired += 1;
    });
    nic.receive(frame(1));
    nic.receive(frame(2));
    expect(fired).toBe(1);
    expect(() => device.getRecvIrq(1)).toThrow(/queue must be 0..0/);
  });

  it('notices that the device is gone', async () => {
    const { nic, device } = await startE1000();
    nic.gone = true;
    expect(device.checkRecvIrq(0)).toBe(false);
    expect(device.gone).toBe(true);
    expect(device.getLinkSpeed()).toBe(0);
    await device.whenGone();
  });

  it('whenGone() tells that the machine has ended, although nobody has asked the device', async () => {
    const { device, endMachine } = await startE1000();
    endMachine();
    await device.whenGone();
    expect(device.gone).toBe(true);
  });
});

describe('e1000 life', () => {
  it('readStats() adds the counters, null clears them', async () => {
    const { nic, device } = await startE1000();
    const { REG } = await import('#common/nic/e1000');
    nic.set(REG.GPRC, 3);
    nic.set(REG.GORCL, 7);
    nic.set(REG.GORCH, 1);
    const stats = { rxPackets: 1, txPackets: 0, rxBytes: 0, txBytes: 0 };
    device.readStats(stats);
    device.readStats(stats);
    expect(stats).toEqual({ rxPackets: 4, txPackets: 0, rxBytes: 2 ** 32 + 7, txBytes: 0 });
  });

  it('close() stops receive, transmit and interrupts, then releases', async () => {
    const { nic, device, irq } = await startE1000();
    nic.accesses.length = 0;
    await device.close();
    await device.close();
    expect(nic.accesses).toEqual(['W IMC 0xffffffff', 'W RCTL 0x0', 'W TCTL 0x8', 'R STATUS']);
    expect(irq.closed).toBe(true);
  });

  it('knows no options and cannot set its MAC', async () => {
    const { device } = await startE1000();
    expect(() => device.getOpt(0x1000)).toThrow(/0x1000/);
    expect(() => device.setMacAddr(new Uint8Array(6))).toThrow(/ixl-e1000 does not support it/);
    expect(device.getMaxFrameSize()).toBe(1514);
    expect([device.getRxQueueDepth(0), device.getTxQueueDepth(0)]).toEqual([256, 256]);
  });
});

describe('the Wait mode', () => {
  it('rxBatchWait() resolves when a packet comes, without its FCS', async () => {
    const { nic, device, dma } = await startE1000({ irqTimeoutMs: 5000 });
    const buffers = new Int32Array(32);
    const waiting = device.rxBatchWait(0, buffers, 32);
    await settle();
    nic.receive(frame(7, 100));
    expect(await waiting).toBe(1);
    expect(lengthOf(dma.memory, buffers[0] as number)).toBe(100);
    await device.close();
  });

  it('rxBatchWait() gives 0 after irqTimeoutMs and when aborted', async () => {
    const { device } = await startE1000({ irqTimeoutMs: 5 });
    expect(await device.rxBatchWait(0, new Int32Array(1), 1)).toBe(0);
    const forEver = await startE1000({ irqTimeoutMs: -2 });
    const abort = new AbortController();
    const waiting = forEver.device.rxBatchWait(0, new Int32Array(1), 1, abort.signal);
    abort.abort();
    expect(await waiting).toBe(0);
  });

  it('is refused in the other modes', async () => {
    const { device } = await startE1000();
    await expect(device.rxBatchWait(0, new Int32Array(1), 1)).rejects.toThrow(/current mode is "notify"/);
  });
});
