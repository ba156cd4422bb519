/**
 * Memory whose owner changes it while it is read: every so many reads of the view, a hook runs in between. Descriptors are
 * read through it, and headers, tags and addresses of frames.
 */
import { Memory } from '#common/memory';

class HookedView extends DataView<ArrayBuffer> {
  hook: () => void = () => {};

  override getUint16(at: number, littleEndian?: boolean): number {
    this.hook();
    return super.getUint16(at, littleEndian);
  }

  override getUint32(at: number, littleEndian?: boolean): number {
    this.hook();
    return super.getUint32(at, littleEndian);
  }

  override getInt32(at: number, littleEndian?: boolean): number {
    this.hook();
    return super.getInt32(at, littleEndian);
  }
}

export class HookedMemory extends Memory {
  override readonly view: HookedView;

  constructor(bytes: number) {
    super(new ArrayBuffer(bytes));
    this.view = new HookedView(this.buffer);
  }

  /** Runs before every read. It must not read through the view itself. */
  set onRead(hook: () => void) {
    this.view.hook = hook;
  }
}
