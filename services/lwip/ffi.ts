/**
 * liblwip.so.0 through koffi: the functions we call and the callbacks it calls, nothing else.
 *
 * Every pointer is a plain number (user-space addresses are below 2^47). The library is used as with
 * NO_SYS: `lwip_init` without `tcpip_init`, all calls from the one Node thread, our own timers. A JavaScript
 * exception must never unwind through C: `callback()` keeps it and throws it from the event loop.
 */
import koffi from 'koffi';

const LIBRARY = 'liblwip.so.0';

type Pointer = number;

/** The functions of lwIP, with the argument order of its headers. */
export interface LwipFunctions {
  lwip_init(): void;
  tcp_init(): void;
  tcp_tmr(): void;
  etharp_tmr(): void;
  ip_reass_tmr(): void;
  ip6_reass_tmr(): void;
  nd6_tmr(): void;
  mld6_tmr(): void;
  netif_add(
    netif: Pointer,
    ip: Pointer,
    mask: Pointer,
    gw: Pointer,
    state: Pointer,
    init: Pointer,
    input: Pointer,
  ): Pointer;
  netif_remove(netif: Pointer): void;
  netif_set_addr(netif: Pointer, ip: Pointer, mask: Pointer, gw: Pointer): void;
  netif_set_default(netif: Pointer): void;
  netif_set_up(netif: Pointer): void;
  netif_set_down(netif: Pointer): void;
  netif_set_link_up(netif: Pointer): void;
  netif_set_link_down(netif: Pointer): void;
  netif_create_ip6_linklocal_address(netif: Pointer, fromMac: number): void;
  etharp_find_addr(netif: Pointer, ip: Pointer, mac: Pointer, found: Pointer): number;
  etharp_query(netif: Pointer, ip: Pointer, pbuf: Pointer): number;
  ethernet_input(pbuf: Pointer, netif: Pointer): number;
  pbuf_alloc(layer: number, length: number, type: number): Pointer;
  pbuf_alloced_custom(
    layer: number,
    length: number,
    type: number,
    custom: Pointer,
    payload: Pointer,
    payloadLength: number,
  ): Pointer;
  pbuf_free(pbuf: Pointer): number;
  pbuf_take(pbuf: Pointer, data: Uint8Array, length: number): number;
  /** Copies up to `length` bytes of a chain to an address; returns how many there were. */
  pbuf_copy_partial(pbuf: Pointer, to: Pointer, length: number, offset: number): number;
  tcp_new_ip_type(type: number): Pointer;
  tcp_arg(pcb: Pointer, arg: number): void;
  tcp_recv(pcb: Pointer, fn: Pointer): void;
  tcp_sent(pcb: Pointer, fn: Pointer): void;
  tcp_err(pcb: Pointer, fn: Pointer): void;
  tcp_accept(pcb: Pointer, fn: Pointer): void;
  tcp_bind(pcb: Pointer, ip: Pointer, port: number): number;
  tcp_connect(pcb: Pointer, ip: Pointer, port: number, fn: Pointer): number;
  tcp_listen_with_backlog_and_err(pcb: Pointer, backlog: number, err: Pointer): Pointer;
  tcp_recved(pcb: Pointer, length: number): void;
  tcp_write(pcb: Pointer, data: Uint8Array, length: number, flags: number): number;
  tcp_output(pcb: Pointer): number;
  tcp_keepalive(pcb: Pointer): number;
  tcp_shutdown(pcb: Pointer, rx: number, tx: number): number;
  tcp_close(pcb: Pointer): number;
  tcp_abort(pcb: Pointer): void;
  tcp_abandon(pcb: Pointer, reset: number): void;
  udp_new_ip_type(type: number): Pointer;
  udp_bind(pcb: Pointer, ip: Pointer, port: number): number;
  udp_recv(pcb: Pointer, fn: Pointer, arg: number): void;
  udp_sendto(pcb: Pointer, pbuf: Pointer, ip: Pointer, port: number): number;
  udp_remove(pcb: Pointer): void;
}

const P = 'uint64_t';
const E = 'int8_t';

/** Result and argument types of each function, in C. */
const SIGNATURES: Record<keyof LwipFunctions, [string, string[]]> = {
  lwip_init: ['void', []],
  tcp_init: ['void', []],
  tcp_tmr: ['void', []],
  etharp_tmr: ['void', []],
  ip_reass_tmr: ['void', []],
  ip6_reass_tmr: ['void', []],
  nd6_tmr: ['void', []],
  mld6_tmr: ['void', []],
  netif_add: [P, [P, P, P, P, P, P, P]],
  netif_remove: ['void', [P]],
  netif_set_addr: ['void', [P, P, P, P]],
  netif_set_default: ['void', [P]],
  netif_set_up: ['void', [P]],
  netif_set_down: ['void', [P]],
  netif_set_link_up: ['void', [P]],
  netif_set_link_down: ['void', [P]],
  netif_create_ip6_linklocal_address: ['void', [P, 'uint8_t']],
  etharp_find_addr: ['intptr_t', [P, P, P, P]],
  etharp_query: [E, [P, P, P]],
  ethernet_input: [E, [P, P]],
  pbuf_alloc: [P, ['int', 'uint16_t', 'int']],
  pbuf_alloced_custom: [P, ['int', 'uint16_t', 'int', P, P, 'uint16_t']],
  pbuf_free: ['uint8_t', [P]],
  pbuf_take: [E, [P, 'const void *', 'uint16_t']],
  pbuf_copy_partial: ['uint16_t', [P, P, 'uint16_t', 'uint16_t']],
  tcp_new_ip_type: [P, ['uint8_t']],
  tcp_arg: ['void', [P, P]],
  tcp_recv: ['void', [P, P]],
  tcp_sent: ['void', [P, P]],
  tcp_err: ['void', [P, P]],
  tcp_accept: ['void', [P, P]],
  tcp_bind: [E, [P, P, 'uint16_t']],
  tcp_connect: [E, [P, P, 'uint16_t', P]],
  tcp_listen_with_backlog_and_err: [P, [P, 'uint8_t', P]],
  tcp_recved: ['void', [P, 'uint16_t']],
  tcp_write: [E, [P, 'const void *', 'uint16_t', 'uint8_t']],
  tcp_output: [E, [P]],
  tcp_keepalive: [E, [P]],
  tcp_shutdown: [E, [P, 'int', 'int']],
  tcp_close: [E, [P]],
  tcp_abort: ['void', [P]],
  tcp_abandon: ['void', [P, 'int']],
  udp_new_ip_type: [P, ['uint8_t']],
  udp_bind: [E, [P, P, 'uint16_t']],
  udp_recv: ['void', [P, P, P]],
  udp_sendto: [E, [P, P, P, 'uint16_t']],
  udp_remove: ['void', [P]],
};

/** Prototypes of the functions lwIP calls (netif.h, pbuf.h, tcp.h, udp.h). */
const CALLBACKS = {
  netifInit: koffi.proto('int8_t LwipNetifInit(uint64_t netif)'),
  linkOutput: koffi.proto('int8_t LwipLinkOutput(uint64_t netif, uint64_t p)'),
  customFree: koffi.proto('void LwipCustomFree(uint64_t p)'),
  recv: koffi.proto('int8_t LwipRecv(uint64_t arg, uint64_t pcb, uint64_t p, int8_t err)'),
  sent: koffi.proto('int8_t LwipSent(uint64_t arg, uint64_t pcb, uint16_t length)'),
  connected: koffi.proto('int8_t LwipConnected(uint64_t arg, uint64_t pcb, int8_t err)'),
  accept: koffi.proto('int8_t LwipAccept(uint64_t arg, uint64_t pcb, int8_t err)'),
  err: koffi.proto('void LwipErr(uint64_t arg, int8_t err)'),
  udpRecv: koffi.proto(
    'void LwipUdpRecv(uint64_t arg, uint64_t pcb, uint64_t p, uint64_t addr, uint16_t port)',
  ),
} as const;

export type CallbackName = keyof typeof CALLBACKS;

export interface Ffi extends LwipFunctions {
  /** Native address of an exported function or variable. */
  symbol(name: string): Pointer;
  /** An ArrayBuffer over native memory; must not be touched once that memory is freed. About 1.5 us. */
  view(address: Pointer, size: number): ArrayBuffer;
  memcpy(to: Pointer, from: Pointer, size: number): void;
  /** Native address of a JavaScript function for lwIP to call; lives as long as the process. */
  callback(name: CallbackName, fn: (...args: number[]) => number | undefined): Pointer;
  srand(seed: number): void;
}

/** Opens the library. Throws with the command that installs it when it is missing. */
export function loadLwip(library: string = LIBRARY): Ffi {
  const handle = open(library);
  const libc = koffi.load('libc.so.6');
  const functions = {} as Record<string, unknown>;
  for (const [name, [result, args]] of Object.entries(SIGNATURES)) {
    functions[name] = bind(library, name, () => handle.func(name, result, args));
  }
  const kept: unknown[] = [];
  return {
    ...(functions as unknown as LwipFunctions),
    symbol: (name) => Number(koffi.address(bind(library, name, () => handle.symbol(name)))),
    view: (address, size) => koffi.view(BigInt(address), size),
    memcpy: libc.func('memcpy', 'void', [P, P, 'size_t']) as unknown as Ffi['memcpy'],
    srand: libc.func('srand', 'void', ['uint']) as unknown as Ffi['srand'],
    callback: (name, fn) => {
      const pointer = koffi.register(guarded(name, fn), koffi.pointer(CALLBACKS[name]));
      kept.push(pointer);
      return Number(koffi.address(pointer));
    },
  };
}

function open(library: string): ReturnType<typeof koffi.load> {
  try {
    return koffi.load(library);
  } catch (cause) {
    throw new Error(
      `Cannot load the TCP/IP stack as ${library} must be installed (Debian package liblwip0): sudo apt-get install -y liblwip0`,
      { cause },
    );
  }
}

function bind<T>(library: string, name: string, find: () => T): T {
  try {
    return find();
  } catch (cause) {
    throw new Error(
      `Cannot use ${library} as it must export ${name}: install lwIP 2.1.3 (Debian package liblwip0)`,
      { cause },
    );
  }
}

/** ERR_VAL (lwip/err.h): what lwIP is told when our side of a callback threw. */
const ERR_VAL = -6;

function guarded(
  name: CallbackName,
  fn: (...args: number[]) => number | undefined,
): (...args: number[]) => number | undefined {
  const failed = name === 'customFree' || name === 'err' || name === 'udpRecv' ? undefined : ERR_VAL;
  return (...args) => {
    try {
      return fn(...args);
    } catch (err) {
      setImmediate(() => {
        throw err;
      });
      return failed;
    }
  };
}
