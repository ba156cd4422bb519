/**
 * Native calls that only benchmarks need: what our copying is measured against, and the client side of vde_switch.
 * Addresses are plain numbers, e.g. an arena's `address` plus an offset.
 */
import koffi from 'koffi';

const LIBVDEPLUG = 'libvdeplug.so.2';
const VDE_INTERFACE_VERSION = 1;
const MSG_DONTWAIT = 0x40;

/** memcpy(3) by native addresses; a call costs about 50 ns before the first byte. */
export function nativeCopy(): (to: number, from: number, bytes: number) => void {
  const memcpy = koffi.load('libc.so.6').func('void memcpy(uint64_t, uint64_t, size_t)');
  return (to, from, bytes) => {
    memcpy(to, from, bytes);
  };
}

/** A plug in a vde_switch: one connected pair of Unix datagram sockets, as all its clients have them. */
export interface VdePlug {
  /** False when the switch has no room at the moment. */
  send(address: number, bytes: number): boolean;
  /** Bytes of the next frame, copied to `address`; -1 when there is none. */
  receive(address: number, room: number): number;
  close(): void;
}

/**
 * Opens plugs through the library that vde's own clients use. Throws when it is not installed. Frames go through the
 * plug's socket directly: the library's own calls block.
 */
export function vdePlugs(): (path: string) => VdePlug {
  const library = koffi.load(LIBVDEPLUG);
  const open = library.func('uint64_t vde_open_real(const char *, const char *, int, const void *)');
  const dataFd = library.func('int vde_datafd(uint64_t)');
  const close = library.func('int vde_close(uint64_t)');
  const libc = koffi.load('libc.so.6');
  const sendC = libc.func('intptr_t send(int, uint64_t, size_t, int)');
  const receiveC = libc.func('intptr_t recv(int, uint64_t, size_t, int)');
  return (path) => {
    const handle = open(path, 'l4lab-bench', VDE_INTERFACE_VERSION, null) as number | bigint;
    if (Number(handle) === 0) throw new Error(`Cannot plug into the vde_switch at ${path}`);
    const fd = dataFd(handle) as number;
    return {
      send: (address, bytes) => sendC(fd, address, bytes, MSG_DONTWAIT) === bytes,
      receive: (address, room) => receiveC(fd, address, room, MSG_DONTWAIT) as number,
      close: () => void close(handle),
    };
  };
}
