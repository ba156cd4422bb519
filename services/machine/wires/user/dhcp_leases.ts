/**
 * Which client has which address of the user network: the table behind its DHCP server.
 *
 * One entry for each address of the pool, made once, so memory is bounded whatever the guests send. A client is its MAC
 * address, as for libslirp: the same MAC gets the same address for as long as nobody else needed it.
 */

/** A clock in milliseconds that never goes back. */
export type Clock = () => number;

interface Entry {
  readonly address: number;
  /** Who has it, or had it last; undefined: nobody yet, or the client found it in use elsewhere. */
  client: number | undefined;
  /** Taken until then; before now: free since then. 0 and never taken: the lowest. */
  until: number;
  /** Only offered: gives way when nothing else is left. */
  offered: boolean;
}

export class DhcpLeases {
  readonly #entries: readonly Entry[];
  readonly #byAddress = new Map<number, Entry>();
  readonly #byClient = new Map<number, Entry>();
  readonly #now: Clock;

  /** `pool`: addresses in the order in which they are given out first. */
  constructor(pool: readonly number[], now: Clock) {
    this.#now = now;
    this.#entries = pool.map((address) => ({
      address,
      client: undefined,
      until: Number.NEGATIVE_INFINITY,
      offered: false,
    }));
    for (const entry of this.#entries) this.#byAddress.set(entry.address, entry);
  }

  /** Addresses in the pool. */
  get size(): number {
    return this.#entries.length;
  }

  /** All leases that have not expired, by address; offers are none. */
  leased(): { readonly client: number; readonly address: number }[] {
    return this.#entries.flatMap((entry) => {
      const { client, address } = entry;
      return client === undefined || entry.offered || this.#isFree(entry) ? [] : [{ client, address }];
    });
  }

  /** The address that `client` has or had last. */
  of(client: number): number | undefined {
    return this.#byClient.get(client)?.address;
  }

  /**
   * Keeps an address for `client` for `ms`, in the order of [RFC 2131 §4.3.1]: its own, the `wanted` one if free, the one
   * that has been free longest (untouched ones first). undefined: every address is leased.
   */
  offer(client: number, wanted: number, ms: number): number | undefined {
    const own = this.#byClient.get(client);
    if (own !== undefined) {
      // An offer must not shorten a lease that the client may still be using.
      if (this.#isFree(own) || own.offered) this.#take(own, client, ms, true);
      return own.address;
    }
    const asked = this.#byAddress.get(wanted);
    const entry = asked !== undefined && this.#isFree(asked) ? asked : this.#idlest();
    if (entry !== undefined) this.#take(entry, client, ms, true);
    return entry?.address;
  }

  /** Leases `address` to `client` for `ms`. False: it has another one, or the address is another's or not in the pool. */
  lease(client: number, address: number, ms: number): boolean {
    const entry = this.#byAddress.get(address);
    const own = this.#byClient.get(client);
    if (entry === undefined || (own ?? entry) !== entry) return false;
    if (own === undefined && !this.#isFree(entry)) return false;
    this.#take(entry, client, ms, false);
    return true;
  }

  /** The client gives `address` back; it may still have it again. False: it is not the client's. */
  release(client: number, address: number): boolean {
    const entry = this.#byClient.get(client);
    if (entry?.address !== address) return false;
    entry.until = Math.min(entry.until, this.#now());
    return true;
  }

  /** The client took up another server's offer: ours is free again, a lease stays. */
  withdraw(client: number): void {
    const entry = this.#byClient.get(client);
    if (entry?.offered) this.release(client, entry.address);
  }

  /** The client found that somebody else uses `address`: nobody gets it for `ms`. False: it is not the client's. */
  decline(client: number, address: number, ms: number): boolean {
    const entry = this.#byClient.get(client);
    if (entry?.address !== address) return false;
    this.#forget(entry);
    entry.until = this.#now() + ms;
    entry.offered = false;
    return true;
  }

  #isFree(entry: Entry): boolean {
    return entry.until <= this.#now();
  }

  /** The entry that has been free longest; failing that, the oldest offer that nobody took up. */
  #idlest(): Entry | undefined {
    let best: Entry | undefined;
    for (const entry of this.#entries) {
      if (!this.#isFree(entry) && !entry.offered) continue;
      if (best === undefined || entry.until < best.until) best = entry;
    }
    return best;
  }

  #take(entry: Entry, client: number, ms: number, offered: boolean): void {
    if (entry.client !== client) this.#forget(entry);
    entry.client = client;
    entry.until = this.#now() + ms;
    entry.offered = offered;
    this.#byClient.set(client, entry);
  }

  #forget(entry: Entry): void {
    if (entry.client !== undefined) this.#byClient.delete(entry.client);
    entry.client = undefined;
  }
}
