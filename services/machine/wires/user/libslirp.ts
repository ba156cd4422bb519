/**
 * libslirp's C interface through koffi: functions, callback types and structure offsets [libslirp.h].
 *
 * Pointers are `uint64_t` numbers. The library is loaded when the first user wire is made, so that a machine without
 * one needs no libslirp.
 */

import koffi from 'koffi';

const POINTER = 'uint64_t';

/** Byte offsets of struct SlirpCb on 64-bit Linux. */
export const SLIRP_CB = {
  SEND_PACKET: 0,
  GUEST_ERROR: 8,
  CLOCK_GET_NS: 16,
  TIMER_NEW: 24,
  TIMER_FREE: 32,
  TIMER_MOD: 40,
  REGISTER_POLL_FD: 48,
  UNREGISTER_POLL_FD: 56,
  NOTIFY: 64,
  INIT_COMPLETED: 72,
  TIMER_NEW_OPAQUE: 80,
  SIZE: 88,
} as const;

/** Byte offsets of struct SlirpConfig on 64-bit Linux, as far as they are set here; the rest stays zero. */
export const SLIRP_CONFIG = {
  VERSION: 0,
  IN_ENABLED: 8,
  VNETWORK: 12,
  VNETMASK: 16,
  VHOST: 20,
  IN6_ENABLED: 24,
  VPREFIX_ADDR6: 28,
  VPREFIX_LEN: 44,
  VHOST6: 48,
  VHOSTNAME: 64,
  VDHCP_START: 96,
  VNAMESERVER: 100,
  VNAMESERVER6: 104,
  VDNSSEARCH: 120,
  VDOMAINNAME: 128,
  SIZE: 184,
} as const;

/** Callback types, in the order of struct SlirpCb, and those of the two poll functions. */
export const PROTO = {
  sendPacket: koffi.proto('int64_t', [POINTER, 'size_t', POINTER]),
  guestError: koffi.proto('void', ['str', POINTER]),
  clockGetNs: koffi.proto('int64_t', [POINTER]),
  timerNew: koffi.proto(POINTER, [POINTER, POINTER, POINTER]),
  timerFree: koffi.proto('void', [POINTER, POINTER]),
  timerMod: koffi.proto('void', [POINTER, 'int64_t', POINTER]),
  pollFd: koffi.proto('void', ['int', POINTER]),
  notify: koffi.proto('void', [POINTER]),
  initCompleted: koffi.proto('void', [POINTER, POINTER]),
  timerNewOpaque: koffi.proto(POINTER, ['int', POINTER, POINTER]),
  timer: koffi.proto('void', [POINTER]),
  addPoll: koffi.proto('int', ['int', 'int', POINTER]),
  getRevents: koffi.proto('int', ['int', POINTER]),
} as const;

/** The functions used here, bound to a loaded library. */
export interface LibSlirp {
  /** E.g. `4.7.0`. */
  readonly version: string;
  create(config: number, callbacks: number, opaque: number): number;
  cleanup(slirp: number): void;
  input(slirp: number, frame: number, length: number): void;
  pollfdsFill(slirp: number, timeout: number, addPoll: number, opaque: number): void;
  pollfdsPoll(slirp: number, error: number, getRevents: number, opaque: number): void;
  handleTimer(slirp: number, id: number, opaque: number): void;
  /** Addresses are struct in_addr by value: a 32-bit word whose bytes are in network order. Returns 0 or -1. */
  addHostForward(
    slirp: number,
    udp: number,
    hostIp: number,
    hostPort: number,
    guestIp: number,
    guestPort: number,
  ): number;
}

let loaded: LibSlirp | undefined;

/** Loads libslirp.so.0. Throws with the command that installs it when it is missing. */
export function libslirp(): LibSlirp {
  loaded ??= load();
  return loaded;
}

function load(): LibSlirp {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load('libslirp.so.0');
  } catch (cause) {
    throw new Error(
      'Cannot make wire "user" as libslirp.so.0 must be installed: try "apt-get install libslirp0", or wire=none',
      { cause },
    );
  }
  const version = library.func('slirp_version_string', 'str', []) as () => string;
  return {
    version: version(),
    create: library.func('slirp_new', POINTER, [POINTER, POINTER, POINTER]),
    cleanup: library.func('slirp_cleanup', 'void', [POINTER]),
    input: library.func('slirp_input', 'void', [POINTER, POINTER, 'int']),
    pollfdsFill: library.func('slirp_pollfds_fill', 'void', [POINTER, POINTER, POINTER, POINTER]),
    pollfdsPoll: library.func('slirp_pollfds_poll', 'void', [POINTER, 'int', POINTER, POINTER]),
    addHostForward: library.func('slirp_add_hostfwd', 'int', [
      POINTER,
      'int',
      'uint32_t',
      'int',
      'uint32_t',
      'int',
    ]),
    handleTimer: library.func('slirp_handle_timer', 'void', [POINTER, 'int', POINTER]),
  };
}

/** Calls a `SlirpTimerCb` (only libslirp below 4.7 hands them out). */
export function callTimer(callback: number, opaque: number): void {
  koffi.call(BigInt(callback), PROTO.timer, opaque);
}

/** Makes `callback` callable from C. Returns its native address and how to let go of it. */
export function nativeCallback(
  callback: (...args: never[]) => unknown,
  proto: (typeof PROTO)[keyof typeof PROTO],
): { readonly address: number; release(): void } {
  const pointer = koffi.register(callback, koffi.pointer(proto));
  return { address: Number(koffi.address(pointer)), release: () => koffi.unregister(pointer) };
}

/** Highest SlirpConfig version that a library of this version takes: 4 came with 4.7.0, 3 with 4.3.0. */
export function configVersion(version: string): number {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const level = major * 100 + minor;
  if (level >= 407) return 4;
  return level >= 403 ? 3 : 1;
}
