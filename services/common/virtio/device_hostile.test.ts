import { expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import * as c from './config_page.ts';
import { VirtioError } from './errors.ts';
import { layoutQueue } from './layout.ts';
import { BASE, deviceRig, PAGE, QUEUES } from './testing/device_rig.ts';

it('whatever the driver calls and scribbles: only VirtioError, one onReset per onConfigured, features as offered', () => {
  const call = fc.oneof(
    fc.record({
      kind: fc.constant('status' as const),
      value: fc.oneof(fc.constantFrom(0, 1, 3, 0x0b, 0x0f), fc.nat(255)),
    }),
    fc.record({ kind: fc.constant('queue' as const), index: fc.nat(3) }),
    fc.record({
      kind: fc.constant('ds' as const),
      args: fc.tuple(
        fc.constantFrom(0, BASE, BASE + 4096, 2 ** 53, 2 ** 64),
        fc.nat(70000),
        fc.nat(70000),
        fc.boolean(),
      ),
    }),
    fc.record({
      kind: fc.constant('layout' as const),
      index: fc.nat(1),
      size: fc.constantFrom(8, 256, 7),
      at: fc.nat(20000),
    }),
    fc.record({
      kind: fc.constant('features' as const),
      lo: fc.constantFrom(0, 0x20, 1),
      hi: fc.constantFrom(0, 1, 3),
    }),
    fc.record({ kind: fc.constant('scribble' as const), at: fc.nat(4095), byte: fc.nat(255) }),
    fc.record({ kind: fc.constant('fail' as const) }),
  );
  fc.assert(
    fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
      let [up, down] = [0, 0];
      const hooks = {
        onConfigured: () => void up++,
        onReset: () => void down++,
        onError: () => {},
        interrupt: () => {},
      };
      const { memory, device, page, register, bringUp } = deviceRig(hooks, { dsMax: 80 });
      bringUp();
      for (const step of calls) {
        try {
          if (step.kind === 'status') device.setStatus(step.value);
          else if (step.kind === 'queue') device.configQueue(step.index);
          else if (step.kind === 'ds') register(...step.args);
          else if (step.kind === 'layout') {
            page.queue(QUEUES, step.index).layout = layoutQueue(step.size, BASE + (step.at & ~15));
            page.queue(QUEUES, step.index).ready = true;
          } else if (step.kind === 'features') page.writeFeatures(c.CONFIG.DRIVER_FEATURES_MAP, step);
          else if (step.kind === 'scribble') memory.u8[PAGE + step.at] = step.byte;
          else device.fail('test');
        } catch (err) {
          expect(err).toBeInstanceOf(VirtioError);
        }
        expect(up - down).toBe(device.running ? 1 : 0);
        expect(device.running).toBe(device.status === 0x0f);
        expect((device.features.lo & ~device.offered.lo) | (device.features.hi & ~device.offered.hi)).toBe(0);
      }
    }),
    { numRuns: 500 },
  );
});
