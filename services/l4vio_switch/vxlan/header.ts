/** The VXLAN header, 8 bytes between UDP and the inner frame [RFC 7348 §5]. */
import type { Memory } from '#common/memory';

export const VXLAN_HEADER = 8;
/** The assigned UDP port. */
export const VXLAN_PORT = 4789;
export const MAX_VNI = 0xff_ffff;

/** I: the VNI is valid. All other bits are sent as zero and ignored. */
const FLAG_VNI = 0x08;

/** Writes the header at `at`. */
export function writeHeader(memory: Memory, at: number, vni: number): void {
  const { view } = memory;
  view.setUint32(at, FLAG_VNI << 24, false);
  view.setUint32(at + 4, vni << 8, false);
}

/** The VNI of the header at `at`, or -1 when it has none. */
export function readVni(memory: Memory, at: number): number {
  if (((memory.u8[at] as number) & FLAG_VNI) === 0) return -1;
  return memory.view.getUint32(at + 4, false) >>> 8;
}
