/**
 * New connections in place of those in TIME-WAIT. [RFC 9293 §3.10.7.4]
 *
 * lwIP answers the SYN of a new connection with the addresses and ports of one that it keeps for two minutes by an
 * acknowledgement of the old one, and ignores the RST that comes for it: the client waits until the old one is gone. A user network
 * uses the port numbers of its host's clients, which come back sooner. As in other stacks, a SYN whose sequence number
 * lies behind all that the old connection has received ends it.
 */
import type { Memory } from '#common/memory';
import { get16, get32 } from '#common/wire/bytes';
import { ETH, ETHERTYPE } from '#common/wire/ethernet';
import { IP_PROTOCOL, IPV4 } from '#common/wire/ipv4';
import type { Ffi } from './ffi.ts';
import { TCP_PCB } from './layout.ts';

/** Of the TCP header. */
const SEQUENCE = 4;
const FLAGS = 13;
const HEADER = 20;
const SYN_ACK_RST_FIN = 0x17;
const SYN = 0x02;
/** Bytes of a pcb that are looked at. */
const LOOKED_AT = TCP_PCB.RCV_WND;

export class TimeWait {
  readonly #ffi: Ffi;
  readonly #memory: Memory & { readonly address: number };
  /** Offset of `LOOKED_AT` bytes to look at a pcb in. */
  readonly #at: number;
  readonly #head: BigUint64Array;

  constructor(ffi: Ffi, memory: Memory & { readonly address: number }, at: number) {
    this.#ffi = ffi;
    this.#memory = memory;
    this.#at = at;
    this.#head = new BigUint64Array(ffi.view(ffi.symbol('tcp_tw_pcbs'), 8));
  }

  /** Before lwIP sees a frame that opens a connection: it ends the one in TIME-WAIT that it takes the place of. */
  makeWay(offset: number): void {
    if (this.#head[0] === 0n) return;
    const ip = offset + ETH.HEADER;
    const pcb = this.#find(ip, tcpAt(this.#memory.u8, ip));
    // In TIME-WAIT that sends nothing.
    if (pcb !== 0) this.#ffi.tcp_abort(pcb);
  }

  #find(ip: number, tcp: number): number {
    const { u8, view, address } = this.#memory;
    const at = this.#at;
    const [remotePort, localPort] = [get16(u8, tcp), get16(u8, tcp + 2)];
    for (let pcb = Number(this.#head[0]); pcb !== 0; ) {
      this.#ffi.memcpy(address + at, pcb, LOOKED_AT);
      if (
        view.getUint16(at + TCP_PCB.REMOTE_PORT, true) === remotePort &&
        view.getUint16(at + TCP_PCB.LOCAL_PORT, true) === localPort &&
        get32(u8, at + TCP_PCB.REMOTE_IP) === get32(u8, ip + IPV4.SOURCE) &&
        get32(u8, at + TCP_PCB.LOCAL_IP) === get32(u8, ip + IPV4.DESTINATION)
      ) {
        const ahead = (get32(u8, tcp + SEQUENCE) - view.getUint32(at + TCP_PCB.RCV_NXT, true)) | 0;
        return ahead > 0 ? pcb : 0;
      }
      pcb = Number(view.getBigUint64(at + TCP_PCB.NEXT, true));
    }
    return 0;
  }
}

/** True for an IPv4 frame with SYN and no ACK. */
export function opensConnection(u8: Uint8Array, offset: number, length: number): boolean {
  const ip = offset + ETH.HEADER;
  if (get16(u8, offset + ETH.TYPE) !== ETHERTYPE.IPV4 || u8[ip + IPV4.PROTOCOL] !== IP_PROTOCOL.TCP)
    return false;
  const tcp = tcpAt(u8, ip);
  return tcp + HEADER <= offset + length && ((u8[tcp + FLAGS] as number) & SYN_ACK_RST_FIN) === SYN;
}

function tcpAt(u8: Uint8Array, ip: number): number {
  return ip + ((u8[ip] as number) & 0xf) * 4;
}
