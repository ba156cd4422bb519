/**
 * What a NIC model and the far end of its cable know of each other.
 *
 * Frames are Ethernet without FCS, given as offset and length in the machine's memory; neither
 * side keeps a reference behind the call. All calls come from the machine's one pump.
 */

/** The NIC as its wire sees it. */
export interface WireEnd {
  /**
   * Offers one frame. False: the NIC has no free descriptor now; the wire keeps the frame (and
   * everything behind it, up to its own bound) and offers it again on its next `poll`.
   * `sound`: the wire knows that its checksums are right, as it was made on this host: nobody needs to add it up again.
   */
  receive(offset: number, length: number, sound?: boolean): boolean;
  /** The cable was plugged in or pulled out. */
  linkChanged(up: boolean): void;
}

/** An address that a wire has leased to a guest. */
export interface WireLease {
  /** 6 bytes as a number, first byte highest. */
  readonly client: number;
  /** IPv4 address as a 32-bit number. */
  readonly address: number;
}

/** The far end of a NIC's cable. */
export interface Wire {
  /** `user`, `tap`, `pcap`, `none`. */
  readonly kind: string;
  readonly linkUp: boolean;
  /** Binds the NIC; called once, before anything else. `wake` may be called at any time to ask for a `poll`. */
  connect(end: WireEnd, wake: () => void): void;
  /** Takes a frame from the NIC; the bytes are valid during the call only. */
  transmit(offset: number, length: number): void;
  /** One non-blocking turn: delivers what has arrived. True when anything was done. */
  poll(): boolean;
  /** About to sleep: from now on `wake` must be called for new work. True when there is work already. */
  arm(): boolean;
  /** Leases of the wire's own DHCP server, by address; absent: it has none. */
  leases?(): WireLease[];
  /** Releases every file, socket and timer. */
  close(): void;
}
