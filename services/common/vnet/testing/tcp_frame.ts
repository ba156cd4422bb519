/**
 * TCP over Ethernet, built and cut into segments byte by byte: an implementation of its own, slow and plain, that the
 * fast one is compared with.
 */

export interface TcpFrame {
  readonly ipv6?: boolean;
  /** Tags, outermost first: ethertype and control information. */
  readonly tags?: readonly (readonly [number, number])[];
  /** Bytes of IPv4 options, a multiple of 4, or of an IPv6 destination options header, a multiple of 8. */
  readonly ipOptions?: number;
  /** A multiple of 4. */
  readonly tcpOptions?: number;
  readonly flags?: number;
  readonly sequence?: number;
  readonly id?: number;
  readonly payload: number;
  readonly seed?: number;
}

const be16 = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];
export const read16 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
const write16 = (bytes: Uint8Array, at: number, value: number): void => bytes.set(be16(value), at);

/** One's complement sum of big-endian words. */
export function slowSum(bytes: ArrayLike<number>): number {
  let sum = 0;
  for (let n = 0; n < bytes.length; n++)
    sum += n % 2 === 0 ? (bytes[n] as number) * 256 : (bytes[n] as number);
  while (sum > 0xffff) sum = (sum % 65536) + Math.floor(sum / 65536);
  return sum;
}

export interface Offsets {
  readonly ip: number;
  readonly tcp: number;
  readonly payload: number;
  readonly ipv6: boolean;
}

/** Where the headers of a frame are. */
export function offsets(frame: Uint8Array): Offsets {
  let at = 12;
  while (read16(frame, at) === 0x8100 || read16(frame, at) === 0x88a8) at += 4;
  const ipv6 = read16(frame, at) === 0x86dd;
  const ip = at + 2;
  let tcp = ip + (ipv6 ? 40 : ((frame[ip] as number) & 0xf) * 4);
  if (ipv6 && frame[ip + 6] !== 6) tcp += ((frame[tcp + 1] as number) + 1) * 8;
  return { ip, tcp, ipv6, payload: tcp + ((frame[tcp + 12] as number) >>> 4) * 4 };
}

/** Bytes that a TCP checksum covers besides the segment. */
function pseudoHeader(frame: Uint8Array, { ip, tcp, ipv6 }: Offsets): number[] {
  const addresses = ipv6 ? frame.subarray(ip + 8, ip + 40) : frame.subarray(ip + 12, ip + 20);
  return [...addresses, ...be32(6), ...be32(frame.length - tcp)];
}

/** The frame with its IPv4 and TCP checksums made right. */
export function withChecksums(source: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(source);
  const at = offsets(frame);
  if (!at.ipv6) {
    write16(frame, at.ip + 10, 0);
    write16(frame, at.ip + 10, ~slowSum(frame.subarray(at.ip, at.tcp)) & 0xffff);
  }
  write16(frame, at.tcp + 16, 0);
  // The pseudo-header is even: the sum of both is that of their sums.
  const [pseudo, segment] = [slowSum(pseudoHeader(frame, at)), slowSum(frame.subarray(at.tcp))];
  const sum = ~slowSum([...be16(pseudo), ...be16(segment)]) & 0xffff;
  write16(frame, at.tcp + 16, sum === 0 ? 0xffff : sum);
  return frame;
}

/** The frame as a sender with CSUM gives it: the TCP checksum is the sum of the pseudo-header. */
export function withPartialChecksum(source: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = withChecksums(source);
  const at = offsets(frame);
  write16(frame, at.tcp + 16, slowSum(pseudoHeader(frame, at)));
  return frame;
}

/** A frame with all checksums right. */
export function tcpFrame(spec: TcpFrame): Uint8Array<ArrayBuffer> {
  const { ipv6 = false, tags = [], ipOptions = 0, tcpOptions = 0, payload, seed = 1 } = spec;
  const tcpBytes = 20 + tcpOptions + payload;
  const ethernet = [
    2,
    0,
    0,
    0,
    0,
    1,
    2,
    0,
    0,
    0,
    0,
    0,
    ...tags.flatMap(([type, tci]) => [...be16(type), ...be16(tci)]),
  ];
  const address = (n: number): number[] =>
    Array.from({ length: ipv6 ? 16 : 4 }, (_, i) => (n * 77 + i * 13 + seed) & 0xff);
  const extension =
    ipv6 && ipOptions > 0
      ? [6, ipOptions / 8 - 1, 1, ipOptions - 4, ...new Array(ipOptions - 4).fill(0)]
      : [];
  const ip = ipv6
    ? [
        ...[0x60, 0, 0, 0, ...be16(extension.length + tcpBytes), extension.length > 0 ? 60 : 6, 64],
        ...[...address(1), ...address(2), ...extension],
      ]
    : [
        ...[
          0x45 + ipOptions / 4,
          0,
          ...be16(20 + ipOptions + tcpBytes),
          ...be16(spec.id ?? 7),
          0x40,
          0,
          64,
          6,
          0,
          0,
        ],
        ...[...address(1), ...address(2), ...new Array(ipOptions).fill(1)],
      ];
  const tcp = [
    ...[...be16(1234), ...be16(80), ...be32(spec.sequence ?? 1), ...be32(99)],
    ...[
      (5 + tcpOptions / 4) * 16,
      spec.flags ?? 0x10,
      ...be16(500),
      0,
      0,
      0,
      0,
      ...new Array(tcpOptions).fill(1),
    ],
  ];
  const head = [...ethernet, ...be16(ipv6 ? 0x86dd : 0x0800), ...ip, ...tcp];
  const frame = new Uint8Array(head.length + payload);
  frame.set(head);
  for (let n = 0; n < payload; n++) frame[head.length + n] = (n * 31 + (n >>> 8) * 7 + seed) & 0xff;
  return withChecksums(frame);
}

/** What segmentation is to make of a frame: frames with `mss` bytes of payload at most, all checksums right. */
export function slowSegments(frame: Uint8Array, mss: number): Uint8Array<ArrayBuffer>[] {
  const at = offsets(frame);
  const segments: Uint8Array<ArrayBuffer>[] = [];
  for (let from = at.payload; from < frame.length; from += mss) {
    const to = Math.min(from + mss, frame.length);
    const segment = new Uint8Array(at.payload + to - from);
    segment.set(frame.subarray(0, at.payload));
    segment.set(frame.subarray(from, to), at.payload);
    if (at.ipv6) write16(segment, at.ip + 4, segment.length - at.ip - 40);
    else {
      write16(segment, at.ip + 2, segment.length - at.ip);
      write16(segment, at.ip + 4, (read16(frame, at.ip + 4) + segments.length) & 0xffff);
    }
    const sequence = read16(frame, at.tcp + 4) * 65536 + read16(frame, at.tcp + 6) + from - at.payload;
    segment.set(be32(sequence % 2 ** 32), at.tcp + 4);
    let flags = frame[at.tcp + 13] as number;
    if (to < frame.length) flags &= 0xf6;
    if (from > at.payload) flags &= 0x7f;
    segment[at.tcp + 13] = flags;
    segments.push(withChecksums(segment));
  }
  return segments;
}

export interface Header {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly hdrLen?: number;
  readonly gsoSize?: number;
  readonly csumStart?: number;
  readonly csumOffset?: number;
}

/** The 12 bytes of a virtio-net header. */
export function netHeader(header: Header): Uint8Array {
  const le16 = (value = 0): number[] => [value & 0xff, value >>> 8];
  const { flags = 0, gsoType = 0, hdrLen, gsoSize, csumStart, csumOffset } = header;
  return Uint8Array.from([flags, gsoType, ...[hdrLen, gsoSize, csumStart, csumOffset, 0].flatMap(le16)]);
}

/** The header of a frame that is to be segmented. */
export function tsoHeader(frame: Uint8Array, mss: number, ecn = false): Uint8Array {
  const { tcp, payload, ipv6 } = offsets(frame);
  const gsoType = (ipv6 ? 4 : 1) | (ecn ? 0x80 : 0);
  return netHeader({ flags: 1, gsoType, hdrLen: payload, gsoSize: mss, csumStart: tcp, csumOffset: 16 });
}
