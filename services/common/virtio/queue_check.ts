/** What the device half checks of a queue before it uses it (F4.6). */
import { VirtioError } from './errors.ts';
import {
  AVAIL_ALIGN,
  availBytes,
  DESC_ALIGN,
  descBytes,
  isQueueSize,
  type QueueLayout,
  USED_ALIGN,
  usedBytes,
} from './layout.ts';
import type { Regions } from './regions.ts';

/**
 * Turns a layout of device addresses into offsets of our memory. `what` names the queue in messages.
 * Throws VirtioError EINVAL: size, alignment, outside of the registered memory, used ring not writable.
 */
export function checkQueue(what: string, layout: QueueLayout, max: number, regions: Regions): QueueLayout {
  const { size } = layout;
  if (!isQueueSize(size) || size > max) {
    throw new VirtioError(
      'EINVAL',
      `Cannot configure ${what} as num must be a power of two 1..${max}: current value is ${size}`,
    );
  }
  const area = (name: string, address: number, bytes: number, alignment: number): number => {
    let rule = '';
    const where = regions.find(address, bytes);
    if (address % alignment !== 0) rule = `be aligned to ${alignment}`;
    else if (where < 0) rule = 'lie inside registered memory';
    else if (name === 'used ring' && !regions.hitWritable) rule = 'lie in writable memory';
    else return where;
    throw new VirtioError(
      'EINVAL',
      `Cannot configure ${what} as its ${name} of ${bytes} bytes must ${rule}: current address is 0x${address.toString(16)}`,
    );
  };
  return {
    size,
    desc: area('descriptor table', layout.desc, descBytes(size), DESC_ALIGN),
    avail: area('avail ring', layout.avail, availBytes(size), AVAIL_ALIGN),
    used: area('used ring', layout.used, usedBytes(size), USED_ALIGN),
  };
}
