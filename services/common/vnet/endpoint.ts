/** What the switch knows of a port, whatever is behind it: a virtio driver, or a NIC in this process. */
import type { SourceFrame } from './source_frame.ts';

/** Why a frame was not delivered to a port; `deliver` returns them instead of a byte count. */
export const DROP = {
  /** The driver is not there yet, or was reset. */
  NOT_READY: -1,
  /** The driver has given too few receive buffers. */
  NO_BUFFER: -2,
  /** The frame is larger than the NIC or the driver's buffers can take. */
  TOO_LARGE: -3,
  /** The driver broke the ring protocol while the frame was written; its device has failed. */
  BROKEN: -4,
} as const;

/** Source of a frame is a port; all calls come from the switch's one pump. */
export interface Endpoint {
  /**
   * Takes at most `budget` frames from behind the port and hands each to the switch. Returns how many;
   * a port that breaks the rules fails by itself and is silent from then on.
   */
  handle(budget: number): number;
  /** Copies the frame to the port. `tag` is one of TAG_*, `tci` the tag to write. Returns bytes or one of DROP. */
  deliver(frame: SourceFrame, tag: number, tci: number): number;
  /** Shows everything done so far to the other side. True when it wants to be interrupted. */
  publish(): boolean;
  interrupt(): void;
  /** Asks to be told of new frames. True when there are some already. */
  enableNotifications(): boolean;
  disableNotifications(): void;
}
