/** What the switch knows of a port, whatever is behind it: a virtio driver, or a NIC in this process. */
import type { SourceFrame } from './source_frame.ts';

/** Source of a frame is a port; all calls come from the switch's one pump. */
export interface Endpoint {
  /**
   * Takes at most `budget` frames from behind the port and hands each to the switch. Returns how many;
   * a port that breaks the rules fails by itself and is silent from then on.
   */
  handle(budget: number): number;
  /** Copies the frame to the port. `tag` is one of TAG_*, `tci` the tag to write. Returns bytes, or `~reason` with a reason of DROP. */
  deliver(frame: SourceFrame, tag: number, tci: number): number;
  /** True when it has room for that many frames now, or for as many as it is sure to have room for at some time. */
  hasRoom?(frames: number): boolean;
  /** Shows everything done so far to the other side. True when it wants to be interrupted. */
  publish(): boolean;
  interrupt(): void;
  /** Asks to be told of new frames. True when there are some already. */
  enableNotifications(): boolean;
  disableNotifications(): void;
}
