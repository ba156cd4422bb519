/**
 * DHCP messages [RFC 2131 §2] and their options [RFC 2132]: encode and decode.
 *
 * Both directions, so that a client, a test server and a capture printer share it. Options are kept as
 * raw bytes under their code; options split over several instances are joined [RFC 3396], and options in
 * `sname` and `file` are read when option 52 says so. IPv4 addresses are unsigned 32-bit numbers.
 */

import { get16, get32, put16, put32 } from './bytes.ts';
import { MalformedError } from './malformed.ts';

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;

/** Byte offsets in the fixed part [RFC 2131 §2, figure 1]. */
export const DHCP = {
  OP: 0,
  HTYPE: 1,
  HLEN: 2,
  HOPS: 3,
  XID: 4,
  SECS: 8,
  FLAGS: 10,
  CIADDR: 12,
  YIADDR: 16,
  SIADDR: 20,
  GIADDR: 24,
  CHADDR: 28,
  SNAME: 44,
  FILE: 108,
  COOKIE: 236,
  OPTIONS: 240,
} as const;

export const DHCP_COOKIE = 0x63825363;
export const DHCP_BROADCAST = 0x8000;
/** Shortest message a relay or server must take [RFC 1542 §2.1]; `encodeDhcp` pads to it. */
export const DHCP_MIN_SIZE = 300;

export const BOOTREQUEST = 1;
export const BOOTREPLY = 2;

/** Message types, option 53 [RFC 2132 §9.6]. */
export const DHCP_TYPE = {
  DISCOVER: 1,
  OFFER: 2,
  REQUEST: 3,
  DECLINE: 4,
  ACK: 5,
  NAK: 6,
  RELEASE: 7,
  INFORM: 8,
} as const;

/** Option codes [RFC 2132]. */
export const DHCP_OPTION = {
  PAD: 0,
  SUBNET_MASK: 1,
  ROUTER: 3,
  DNS_SERVER: 6,
  HOST_NAME: 12,
  DOMAIN_NAME: 15,
  INTERFACE_MTU: 26,
  BROADCAST_ADDRESS: 28,
  REQUESTED_IP: 50,
  LEASE_TIME: 51,
  OVERLOAD: 52,
  MESSAGE_TYPE: 53,
  SERVER_ID: 54,
  PARAMETER_LIST: 55,
  MESSAGE: 56,
  MAX_MESSAGE_SIZE: 57,
  RENEWAL_TIME: 58,
  REBINDING_TIME: 59,
  CLASS_ID: 60,
  CLIENT_ID: 61,
  DOMAIN_SEARCH: 119,
  END: 255,
} as const;

export interface DhcpMessage {
  /** `BOOTREQUEST` from a client, `BOOTREPLY` from a server. */
  readonly op: number;
  readonly xid: number;
  /** Seconds since the client began. */
  readonly secs: number;
  /** The client cannot take unicast yet [RFC 2131 §4.1]. */
  readonly broadcast: boolean;
  readonly ciaddr: number;
  readonly yiaddr: number;
  readonly siaddr: number;
  readonly giaddr: number;
  /** The client's MAC address, 6 bytes. */
  readonly chaddr: Uint8Array;
  /** Option code to its bytes; `MESSAGE_TYPE` is in here too, see `dhcpType`. */
  readonly options: ReadonlyMap<number, Uint8Array>;
}

const SNAME_SIZE = 64;
const FILE_SIZE = 128;
const ETHERNET = 1;

/**
 * Decodes the DHCP message in `length` bytes from `at` (the UDP payload).
 * Throws `MalformedError` with the reason.
 */
export function decodeDhcp(bytes: Uint8Array, at: number, length: number): DhcpMessage {
  const refuse = (rule: string, value: number | string): never => {
    throw new MalformedError(`Cannot decode DHCP message as ${rule}: current value is ${value}`);
  };
  if (length < DHCP.OPTIONS) refuse(`it must have at least ${DHCP.OPTIONS} bytes`, length);
  if (get32(bytes, at + DHCP.COOKIE) !== DHCP_COOKIE)
    refuse('magic cookie must be 63:82:53:63', hex(bytes, at + DHCP.COOKIE));
  const op = bytes[at + DHCP.OP] as number;
  if (op !== BOOTREQUEST && op !== BOOTREPLY) refuse('op must be 1 or 2', op);
  const htype = bytes[at + DHCP.HTYPE] as number;
  const hlen = bytes[at + DHCP.HLEN] as number;
  if (htype !== ETHERNET || hlen !== 6)
    refuse('hardware must be Ethernet (htype 1, hlen 6)', `${htype}, ${hlen}`);

  const options = new Map<number, Uint8Array>();
  readOptions(bytes, at + DHCP.OPTIONS, at + length, options);
  // [RFC 2131 §4.1] The file field is read before sname.
  const overload = options.get(DHCP_OPTION.OVERLOAD)?.[0] ?? 0;
  if (overload & 1) readOptions(bytes, at + DHCP.FILE, at + DHCP.FILE + FILE_SIZE, options);
  if (overload & 2) readOptions(bytes, at + DHCP.SNAME, at + DHCP.SNAME + SNAME_SIZE, options);

  return {
    op,
    xid: get32(bytes, at + DHCP.XID),
    secs: get16(bytes, at + DHCP.SECS),
    broadcast: (get16(bytes, at + DHCP.FLAGS) & DHCP_BROADCAST) !== 0,
    ciaddr: get32(bytes, at + DHCP.CIADDR),
    yiaddr: get32(bytes, at + DHCP.YIADDR),
    siaddr: get32(bytes, at + DHCP.SIADDR),
    giaddr: get32(bytes, at + DHCP.GIADDR),
    chaddr: bytes.slice(at + DHCP.CHADDR, at + DHCP.CHADDR + 6),
    options,
  };
}

function hex(bytes: Uint8Array, at: number): string {
  return get32(bytes, at).toString(16).padStart(8, '0');
}

function readOptions(bytes: Uint8Array, from: number, end: number, options: Map<number, Uint8Array>): void {
  for (let i = from; i < end; ) {
    const code = bytes[i] as number;
    if (code === DHCP_OPTION.END) return;
    if (code === DHCP_OPTION.PAD) {
      i += 1;
      continue;
    }
    if (i + 1 >= end)
      throw new MalformedError(
        `Cannot decode DHCP option ${code} as its length byte must be inside the message`,
      );
    const size = bytes[i + 1] as number;
    if (i + 2 + size > end) {
      throw new MalformedError(
        `Cannot decode DHCP option ${code} as it must end inside the message: current length is ${size}, left are ${end - i - 2}`,
      );
    }
    const value = bytes.slice(i + 2, i + 2 + size);
    const before = options.get(code);
    options.set(code, before === undefined ? value : joined(before, value));
    i += 2 + size;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/**
 * Encodes `message` at `at` and pads it to 300 bytes. Returns the length written; throws RangeError
 * when it does not fit. Message type first, then the other options in the map's order; values above
 * 255 bytes are split [RFC 3396].
 */
export function encodeDhcp(message: DhcpMessage, bytes: Uint8Array, at: number): number {
  let size = DHCP.OPTIONS + 1;
  for (const value of message.options.values())
    size += value.length + 2 * Math.max(1, Math.ceil(value.length / 255));
  const length = Math.max(size, DHCP_MIN_SIZE);
  if (at + length > bytes.length) {
    throw new RangeError(
      `Cannot encode DHCP message as it must fit the buffer: current length is ${length}, room is ${bytes.length - at}`,
    );
  }
  bytes.fill(0, at, at + length);
  bytes[at + DHCP.OP] = message.op;
  bytes[at + DHCP.HTYPE] = ETHERNET;
  bytes[at + DHCP.HLEN] = 6;
  put32(bytes, at + DHCP.XID, message.xid);
  put16(bytes, at + DHCP.SECS, message.secs);
  put16(bytes, at + DHCP.FLAGS, message.broadcast ? DHCP_BROADCAST : 0);
  put32(bytes, at + DHCP.CIADDR, message.ciaddr);
  put32(bytes, at + DHCP.YIADDR, message.yiaddr);
  put32(bytes, at + DHCP.SIADDR, message.siaddr);
  put32(bytes, at + DHCP.GIADDR, message.giaddr);
  bytes.set(message.chaddr.subarray(0, 6), at + DHCP.CHADDR);
  put32(bytes, at + DHCP.COOKIE, DHCP_COOKIE);
  writeOptions(message.options, bytes, at + DHCP.OPTIONS);
  return length;
}

function writeOptions(options: ReadonlyMap<number, Uint8Array>, bytes: Uint8Array, from: number): void {
  let i = from;
  const write = (code: number, value: Uint8Array): void => {
    for (let done = 0; done === 0 || done < value.length; done += 255) {
      const part = value.subarray(done, done + 255);
      bytes[i] = code;
      bytes[i + 1] = part.length;
      bytes.set(part, i + 2);
      i += 2 + part.length;
    }
  };
  const type = options.get(DHCP_OPTION.MESSAGE_TYPE);
  if (type !== undefined) write(DHCP_OPTION.MESSAGE_TYPE, type);
  for (const [code, value] of options) if (code !== DHCP_OPTION.MESSAGE_TYPE) write(code, value);
  bytes[i] = DHCP_OPTION.END;
}
