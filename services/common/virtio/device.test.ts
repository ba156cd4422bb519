import { describe, expect, it, vi } from 'vitest';
import * as c from './config_page.ts';
import { F_INDIRECT_DESC, F_VERSION_1, featureSet, NET_F_CSUM, NET_F_MAC } from './features.ts';
import { layoutQueue, type QueueLayout } from './layout.ts';
import { BASE, deviceRig, QUEUES, RAM, RAM_BYTES, type RigOptions } from './testing/device_rig.ts';

function setup(options: RigOptions = {}) {
  const hooks = { onConfigured: vi.fn(), onReset: vi.fn(), onError: vi.fn(), interrupt: vi.fn() };
  const close = vi.fn();
  return { ...deviceRig(hooks, { close, ...options }), hooks, close };
}

describe('a new VirtioDevice', () => {
  it('describes itself in the page', () => {
    const { memory, page } = setup();
    const { CONFIG } = c;
    expect([...memory.u8.subarray(0x1000, 0x1010)]).toEqual([
      ...Buffer.from('virt'),
      2,
      0,
      0,
      0,
      1,
      0,
      0,
      0,
      0x44,
      0,
      0,
      0,
    ]);
    expect([CONFIG.NUM_QUEUES, CONFIG.QUEUES_OFFSET, CONFIG.STATUS].map((field) => page.read(field))).toEqual(
      [2, QUEUES, 0],
    );
    expect(page.readFeatures(CONFIG.DEV_FEATURES_MAP)).toEqual({ lo: 0x10000020, hi: 1 });
    expect([...page.deviceConfig(6)]).toEqual([2, 0, 0, 0, 0, 1]);
    expect([page.queue(QUEUES, 0).numMax, page.queue(QUEUES, 1).numMax]).toEqual([256, 256]);
  });

  it('has no queues when they do not fit the page', () => {
    const { device, page } = setup({ queues: Array.from({ length: 100 }, () => 256) });
    expect(page.read(c.CONFIG.NUM_QUEUES)).toBe(0);
    device.setStatus(3);
    expect(() => device.configQueue(0)).toThrow(expect.objectContaining({ errno: 'ERANGE' }));
  });

  it('refuses queue sizes that cannot be', () => {
    expect(() => setup({ queues: [300] })).toThrow(/power of two 1..32768: current value is 300/);
  });
});

describe('VirtioDevice.setStatus()', () => {
  it('runs the queues after the stock sequence', () => {
    const { device, page, hooks, bringUp } = setup();
    bringUp();
    expect([page.read(c.CONFIG.STATUS), device.running, hooks.onConfigured.mock.calls.length]).toEqual([
      0x0f,
      true,
      1,
    ]);
    expect(device.features).toEqual(featureSet(NET_F_MAC, F_VERSION_1));
    expect(device.queue(1)?.size).toBe(256);
    device.setStatus(0x0f);
    expect(hooks.onConfigured).toHaveBeenCalledTimes(1);
  });

  it.each([
    [0, 2, 'DRIVER needs ACKNOWLEDGE'],
    [1, 9, 'FEATURES_OK needs DRIVER'],
    [3, 7, 'DRIVER_OK needs FEATURES_OK'],
    [0, 4, 'DRIVER_OK needs FEATURES_OK'],
  ])('from %i, %i sets DEVICE_NEEDS_RESET and takes no bit', (before, after, why) => {
    const { device, page, hooks } = setup();
    device.setStatus(before);
    device.setStatus(after);
    expect(page.read(c.CONFIG.STATUS)).toBe(before | 0x40);
    expect(hooks.onError).toHaveBeenCalledWith(expect.stringContaining(why));
    device.setStatus(3);
    expect(device.status).toBe(before | 0x40);
    device.setStatus(0x80);
    expect(device.status).toBe(before | 0xc0);
    device.setStatus(0);
    expect(device.status).toBe(0);
  });

  it('ignores bits that nobody has defined: they reset nothing', () => {
    const { device, hooks, bringUp } = setup();
    bringUp();
    for (const bits of [0x10, 0x20, 0x100, 0x8000_0000]) device.setStatus(bits);
    expect([device.status, device.running, hooks.onReset.mock.calls.length]).toEqual([0x0f, true, 0]);
  });

  it.each([
    ['VERSION_1 is missing', [NET_F_MAC]],
    ['a bit was not offered', [NET_F_CSUM, F_VERSION_1]],
  ])('clears FEATURES_OK when %s; the driver may try again', (_, bits) => {
    const { device, hooks, accept } = setup();
    device.setStatus(3);
    accept(...bits);
    device.setStatus(0x0b);
    expect(device.status).toBe(3);
    expect(hooks.onError).toHaveBeenCalledWith(
      expect.stringMatching(/^Cannot accept features .* offered MAC /),
    );
    accept(F_VERSION_1);
    device.setStatus(0x0b);
    expect(device.status).toBe(0x0b);
  });

  it.each([64, 160, 191])('clears FEATURES_OK for bit %i, which nobody offers', (bit) => {
    const { device, page, accept } = setup();
    device.setStatus(3);
    accept(F_VERSION_1);
    const word = c.CONFIG.DRIVER_FEATURES_MAP + 4 * Math.floor(bit / 32);
    page.write(word, 1 << (bit % 32));
    device.setStatus(0x0b);
    expect(device.status).toBe(3);
    page.write(word, 0);
    device.setStatus(0x0b);
    expect(device.status).toBe(0x0b);
  });

  it('does not skip the check of features when 0x0f is written at once', () => {
    const { device, accept } = setup();
    device.setStatus(3);
    accept(NET_F_CSUM, F_VERSION_1);
    device.setStatus(0x0f);
    expect(device.status).toBe(0x43);
  });

  it('takes the features at FEATURES_OK: later writes to the map change nothing', () => {
    const { device, bringUp, accept } = setup();
    bringUp();
    accept(F_INDIRECT_DESC, F_VERSION_1);
    expect(device.features).toEqual(featureSet(NET_F_MAC, F_VERSION_1));
  });

  it('resets and asks for a reset when a queue is not ready at 0x0f', () => {
    const { device, hooks, register, configure, accept } = setup();
    device.setStatus(3);
    register();
    configure(0, layoutQueue(256, BASE));
    accept(F_VERSION_1);
    device.setStatus(0x0b);
    device.setStatus(0x0f);
    expect(device.status).toBe(0x40);
    expect(hooks.onError).toHaveBeenCalledWith('Cannot start queues of port1 as queue 1 is not configured');
    expect(hooks.interrupt).not.toHaveBeenCalled();
  });

  it('0 stops the queues, rewrites the page and counts the generation', () => {
    const { memory, device, page, hooks, bringUp } = setup();
    bringUp();
    const { generation } = device;
    memory.u8.fill(0xff, 0x1000, 0x2000);
    device.setStatus(0);
    expect([device.running, hooks.onReset.mock.calls.length]).toEqual([false, 1]);
    expect(page.read(c.CONFIG.GENERATION)).toBe(generation + 1);
    expect([page.read(c.CONFIG.MAGIC), page.read(c.CONFIG.STATUS), page.queue(QUEUES, 0).numMax]).toEqual([
      c.CONFIG_MAGIC,
      0,
      256,
    ]);
    expect([page.queue(QUEUES, 0).ready, page.queue(QUEUES, 0).layout.size, page.deviceConfig(1)[0]]).toEqual(
      [false, 0, 2],
    );
  });

  it('0 forgets the queues: they must be configured again', () => {
    const { device, bringUp, accept } = setup();
    bringUp();
    device.setStatus(0);
    device.setStatus(3);
    accept(F_VERSION_1);
    device.setStatus(0x0b);
    device.setStatus(0x0f);
    expect([device.status, device.running]).toEqual([0x40, false]);
  });

  it('FAILED stops the queues', () => {
    const { device, hooks, bringUp } = setup();
    bringUp();
    device.setStatus(0x8f);
    expect([device.status, device.running, hooks.onReset.mock.calls.length]).toEqual([0x8f, false, 1]);
  });
});

describe('VirtioDevice.configQueue()', () => {
  it('throws EIO before DRIVER and after a failure', () => {
    const { device } = setup();
    expect(() => device.configQueue(0)).toThrow(expect.objectContaining({ errno: 'EIO' }));
    device.setStatus(3);
    expect(() => device.configQueue(0)).not.toThrow();
    device.setStatus(0x83);
    expect(() => device.configQueue(0)).toThrow(/no fail bit: current value is 0x83/);
  });

  it('throws ERANGE for a queue that does not exist', () => {
    const { device } = setup();
    device.setStatus(3);
    expect(() => device.configQueue(2)).toThrow(expect.objectContaining({ errno: 'ERANGE' }));
  });

  const good = layoutQueue(8, BASE);
  it.each<[string, Partial<QueueLayout>]>([
    ['num must be a power of two 1..256: current value is 0', { size: 0 }],
    ['num must be a power of two 1..256: current value is 12', { size: 12 }],
    ['num must be a power of two 1..256: current value is 512', { size: 512 }],
    ['descriptor table of 128 bytes must be aligned to 16', { desc: BASE + 8 }],
    ['avail ring of 22 bytes must be aligned to 2', { avail: BASE + 1 }],
    ['used ring of 70 bytes must be aligned to 4', { used: BASE + 2 }],
    ['descriptor table of 128 bytes must lie inside registered memory', { desc: BASE - 16 }],
    ['avail ring of 22 bytes must lie inside registered memory', { avail: BASE + RAM_BYTES - 20 }],
    [
      'used ring of 70 bytes must lie inside registered memory: current address is 0x8000000000000000',
      { used: 2 ** 63 },
    ],
  ])('throws EINVAL: %s', (message, change) => {
    const { device, register, configure } = setup();
    device.setStatus(3);
    register();
    expect(() => configure(0, { ...good, ...change })).toThrow(`Cannot configure queue 0 of port1 as `);
    expect(() => configure(0, { ...good, ...change })).toThrow(message);
  });

  it('throws EINVAL when the used ring lies in read-only memory', () => {
    const { device, register, configure } = setup();
    device.setStatus(3);
    register(BASE, 0, RAM_BYTES, false);
    expect(() => configure(0, good)).toThrow(/used ring .* must lie in writable memory/);
  });

  it('with ready = 0 drops the queue; while the device runs it is refused', () => {
    const { device, bringUp, register, configure, accept } = setup();
    device.setStatus(3);
    register();
    configure(0, good);
    configure(1, good);
    configure(1, good, false);
    accept(F_VERSION_1);
    device.setStatus(0x0b);
    device.setStatus(0x0f);
    expect(device.status).toBe(0x40);
    bringUp();
    expect(() => configure(1, good)).toThrow(/as the device runs/);
  });
});

describe('VirtioDevice.registerDs()', () => {
  it.each<[string, string, Parameters<ReturnType<typeof setup>['register']>]>([
    ['EINVAL', 'at least 4096 bytes', [BASE, 0, 1, true, 4095]],
    ['ERANGE', 'offset must be below', [BASE, RAM_BYTES, 1]],
    ['EINVAL', 'size must be 1..65536', [BASE, 0, 0]],
    ['EINVAL', 'size must be 1..65536', [BASE, 0, RAM_BYTES + 1]],
    ['EINVAL', 'offset + size must be at most 65536: current value is 69632', [BASE, 4096, RAM_BYTES]],
    ['EINVAL', 'range of addresses', [2 ** 60, 0, 4096]],
  ])('throws %s: %s', (errno, message, args) => {
    const { register, close } = setup();
    expect(() => register(...args)).toThrow(
      expect.objectContaining({ errno, message: expect.stringContaining(message) }),
    );
    expect(close).not.toHaveBeenCalled();
  });

  it('throws ENOMEM at ds-max', () => {
    const { register } = setup({ dsMax: 1 });
    register();
    expect(() => register(0)).toThrow(expect.objectContaining({ errno: 'ENOMEM' }));
  });

  it('truncates base and offset to pages and rounds the size up', () => {
    const { device, register } = setup();
    register(BASE + 5, 4096 + 7, 1);
    expect(device.regions.find(BASE, 4096)).toBe(RAM + 4096);
    expect(device.regions.find(BASE + 4095, 2)).toBe(-1);
  });

  it('keeps regions over a reset; a new driver may replace them until it configures a queue', () => {
    const { device, close, bringUp, configure, register } = setup();
    bringUp();
    device.setStatus(0);
    device.setStatus(3);
    configure(0, layoutQueue(8, BASE)); // without registering anew
    expect(() => register()).toThrow(/must not overlap/);
    expect(close).not.toHaveBeenCalled();
    bringUp();
    expect([device.running, close.mock.calls.length]).toEqual([true, 1]);
    device.close();
    expect([device.running, close.mock.calls.length]).toEqual([false, 2]);
  });
});

describe('VirtioDevice.fail()', () => {
  it('resets, asks for a reset and interrupts a running driver', () => {
    const { device, page, hooks, bringUp } = setup();
    bringUp();
    device.fail('Cannot pop chain');
    expect([page.read(c.CONFIG.STATUS), page.takeIrq(), device.running]).toEqual([0x40, c.IRQ_CONFIG, false]);
    expect([hooks.interrupt.mock.calls.length, hooks.onReset.mock.calls.length]).toEqual([1, 1]);
    expect(hooks.onError).toHaveBeenCalledWith('Cannot pop chain');
    bringUp();
    expect(device.running).toBe(true);
  });

  it('does not interrupt a driver that was not up', () => {
    const { device, hooks } = setup();
    device.setStatus(3);
    device.fail('x');
    expect(hooks.interrupt).not.toHaveBeenCalled();
  });
});

it('VirtioDevice.interrupt() sets the VRING bit, changeConfig() the CONFIG bit', () => {
  const { device, page, hooks, bringUp } = setup();
  bringUp();
  device.interrupt();
  expect([page.takeIrq(), hooks.interrupt.mock.calls.length]).toEqual([c.IRQ_VRING, 1]);
  device.changeConfig(Uint8Array.of(9, 9, 9, 9, 9, 9, 1, 0, 0, 0));
  expect([page.takeIrq(), page.deviceConfig(1)[0]]).toEqual([c.IRQ_CONFIG, 9]);
  device.setStatus(0);
  expect(page.deviceConfig(1)[0]).toBe(9);
});
