/**
 * How far V8 inlines in processes that move frames.
 *
 * A frame's way is a dozen small functions over several files. V8 stops inlining them into the loop after 920 bytes of
 * bytecode, and every call that is left costs checks and spills on both sides. Measured with
 * test/bench/switch_path.ts (ns for 64 B and 1514 B through the switch, for both drivers): 920: 106, 134, 42;
 * 2000: 97, 118, 39; 4000: 85, 115, 30; more changes nothing.
 */
import { setFlagsFromString } from 'node:v8';

const INLINED_BYTECODE = 4000;

/** To be called before the loops get hot; affects this process only. Idempotent. */
export function inlineDeeply(): void {
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_BYTECODE}`);
}
