/** The wire `none`: a cable that ends in nothing. Frames sent into it are gone, none arrive. */

import type { Wire } from '../wire.ts';

export class NoneWire implements Wire {
  readonly kind = 'none';
  readonly linkUp: boolean;

  /** `linkUp` false: as if the cable were not plugged in at all. */
  constructor(linkUp: boolean) {
    this.linkUp = linkUp;
  }

  connect(): void {}

  transmit(): void {}

  poll(): boolean {
    return false;
  }

  arm(): boolean {
    return false;
  }

  close(): void {}
}
