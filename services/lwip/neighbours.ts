/**
 * The neighbours of an interface whose MAC address lwIP does not know yet.
 *
 * While it asks for one, 10 packets wait (ARP_QUEUE_LEN) and others are dropped: of connections that begin together most would send
 * their SYN, or the answer to one, after the retransmission time-out of 3 s. So a connection of ours begins when the address is there,
 * and who opens one to us from the same network has told its address with that.
 */
import { ARP, ARP_REPLY, emitArpFrame } from '#common/wire/arp';
import { get32 } from '#common/wire/bytes';
import { ETH } from '#common/wire/ethernet';
import { IPV4 } from '#common/wire/ipv4';
import { writeIpv4 } from './address.ts';
import { ERR } from './errors.ts';
import { PBUF, PBUF_LAYER, PBUF_TYPE } from './layout.ts';
import type { Dirty, Stack } from './stack.ts';

/** lwIP repeats its question every second, five times. */
const ASK_AGAIN_MS = 1000;

/** What is to be known of the interface; addresses are 32-bit numbers. */
export interface NeighbourNetif {
  /** Native address of the struct netif. */
  readonly address: number;
  readonly mac: Uint8Array;
  readonly ip: number;
  readonly netmask: number;
}

interface Question {
  askedAt: number;
  readonly waiting: Set<() => void>;
}

export class Neighbours implements Dirty {
  readonly #stack: Stack;
  readonly #netif: NeighbourNetif;
  readonly #questions = new Map<number, Question>();

  constructor(stack: Stack, netif: NeighbourNetif) {
    this.#stack = stack;
    this.#netif = netif;
  }

  /** True when lwIP knows the MAC of this on-link address. */
  knows(ip: number): boolean {
    const { ffi, memory, scratch } = this.#stack;
    const found = memory.address + scratch.stage;
    return ffi.etharp_find_addr(this.#netif.address, this.#writeIp(ip), found, found + 8) >= 0;
  }

  /** Asks for the MAC of an on-link address and calls `onKnown` once it is there. Returns what ends the waiting. */
  ask(ip: number, onKnown: () => void): () => void {
    const now = performance.now();
    const question = this.#questions.get(ip) ?? { askedAt: Number.NEGATIVE_INFINITY, waiting: new Set() };
    this.#questions.set(ip, question);
    question.waiting.add(onKnown);
    if (now - question.askedAt >= ASK_AGAIN_MS) {
      question.askedAt = now;
      this.#stack.ffi.etharp_query(this.#netif.address, this.#writeIp(ip), 0);
      this.#stack.timers.touch();
      this.#stack.flush();
    }
    return () => {
      question.waiting.delete(onKnown);
      if (question.waiting.size === 0 && this.#questions.get(ip) === question) this.#questions.delete(ip);
    };
  }

  /** lwIP has seen an ARP packet. */
  heard(): void {
    if (this.#questions.size > 0) this.#stack.markDirty(this);
  }

  /** Before lwIP sees a frame at `offset` with a SYN: whoever sent it from this network is to get its answer at once. */
  learn(offset: number): void {
    const { memory, scratch } = this.#stack;
    const { ip, netmask, mac } = this.#netif;
    const sender = get32(memory.u8, offset + ETH.HEADER + IPV4.SOURCE);
    if (ip === 0 || ((sender ^ ip) & netmask) !== 0 || this.knows(sender)) return;
    emitArpFrame(memory.u8, scratch.stage, mac, {
      operation: ARP_REPLY,
      senderMac: memory.u8.slice(offset + ETH.SOURCE, offset + ETH.SOURCE + mac.length),
      senderIp: sender,
      targetMac: mac,
      targetIp: ip,
    });
    this.#input(ETH.HEADER + ARP.SIZE);
    this.heard();
  }

  /** Hands lwIP the frame in the scratch memory. */
  #input(length: number): void {
    const { ffi, memory, scratch } = this.#stack;
    const p = ffi.pbuf_alloc(PBUF_LAYER.RAW, length, PBUF_TYPE.RAM);
    if (p === 0) return;
    ffi.memcpy(p + PBUF.SIZE, memory.address + scratch.stage, length);
    if (ffi.ethernet_input(p, this.#netif.address) !== ERR.OK) ffi.pbuf_free(p);
  }

  acknowledge(): void {}

  deliver(): void {
    for (const [ip, { waiting }] of this.#questions) {
      if (!this.knows(ip)) continue;
      this.#questions.delete(ip);
      for (const onKnown of waiting) onKnown();
    }
  }

  #writeIp(ip: number): number {
    const { memory, scratch } = this.#stack;
    writeIpv4(memory, scratch.ip, ip);
    return memory.address + scratch.ip;
  }
}
