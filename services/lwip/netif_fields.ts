/** The fields of a struct netif that lies in our own memory: plain loads and stores (netif.h). */
import type { Memory } from '#common/memory';
import { get32 } from '#common/wire/bytes';
import { formatIpv6 } from './address.ts';
import { IP_ADDR, IP6_ADDR_VALID, NETIF, NETIF_FLAG, NETIF_IP6_COUNT } from './layout.ts';

const TWO_32 = 2 ** 32;

/** What the driver of an interface fills in. Functions are native addresses. */
export interface NetifSetup {
  /** Two letters; the number follows. */
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly output: number;
  readonly outputIp6: number;
  readonly linkOutput: number;
}

export class NetifFields {
  readonly #memory: Memory;
  readonly #at: number;

  constructor(memory: Memory, at: number) {
    this.#memory = memory;
    this.#at = at;
  }

  /** An Ethernet interface; up and link come later. */
  fill(setup: NetifSetup): void {
    const { u8, view } = this.#memory;
    const at = this.#at;
    this.#writePointer(NETIF.OUTPUT, setup.output);
    this.#writePointer(NETIF.OUTPUT_IP6, setup.outputIp6);
    this.#writePointer(NETIF.LINKOUTPUT, setup.linkOutput);
    this.mtu = setup.mtu;
    view.setUint16(at + NETIF.MTU6, setup.mtu, true);
    u8.set(setup.mac, at + NETIF.HWADDR);
    u8[at + NETIF.HWADDR_LEN] = setup.mac.length;
    u8[at + NETIF.NAME] = setup.name.charCodeAt(0);
    u8[at + NETIF.NAME + 1] = setup.name.charCodeAt(1);
    u8[at + NETIF.FLAGS] = NETIF_FLAG.BROADCAST | NETIF_FLAG.ETHARP | NETIF_FLAG.ETHERNET | NETIF_FLAG.MLD6;
  }

  get ip(): number {
    return get32(this.#memory.u8, this.#at + NETIF.IP);
  }

  get netmask(): number {
    return get32(this.#memory.u8, this.#at + NETIF.NETMASK);
  }

  get gateway(): number {
    return get32(this.#memory.u8, this.#at + NETIF.GATEWAY);
  }

  /** IPv6 addresses that may be used now. */
  get ip6(): string[] {
    const { u8 } = this.#memory;
    const addresses: string[] = [];
    for (let i = 0; i < NETIF_IP6_COUNT; i++) {
      if (((u8[this.#at + NETIF.IP6_STATE + i] as number) & IP6_ADDR_VALID) === 0) continue;
      addresses.push(formatIpv6(u8, this.#at + NETIF.IP6 + IP_ADDR.SIZE * i));
    }
    return addresses;
  }

  get num(): number {
    return this.#memory.u8[this.#at + NETIF.NUM] as number;
  }

  set num(value: number) {
    this.#memory.u8[this.#at + NETIF.NUM] = value;
  }

  get flags(): number {
    return this.#memory.u8[this.#at + NETIF.FLAGS] as number;
  }

  set mtu(value: number) {
    this.#memory.view.setUint16(this.#at + NETIF.MTU, value, true);
  }

  /** Native address of the input function. */
  get input(): number {
    const { u32 } = this.#memory;
    const word = (this.#at + NETIF.INPUT) >>> 2;
    return (u32[word] as number) + (u32[word + 1] as number) * TWO_32;
  }

  #writePointer(field: number, value: number): void {
    const { u32 } = this.#memory;
    const word = (this.#at + field) >>> 2;
    u32[word] = value % TWO_32;
    u32[word + 1] = value / TWO_32;
  }
}
