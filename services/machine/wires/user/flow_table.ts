/**
 * Which guest-forward a flow belongs to: a fixed-size open-addressing table, no allocation per packet.
 *
 * Key: transport protocol, the guest's address and port, the host's address and port: what a reply carries. When a
 * neighbourhood is full its longest unused flow is given up. Entries never time out: a guest port that is used anew
 * overwrites its flow.
 */

const SLOTS = 8192;
const PROBES = 16;

export class FlowTable {
  readonly #guestIp = new Int32Array(SLOTS);
  readonly #ports = new Int32Array(SLOTS);
  readonly #hostIp = new Int32Array(SLOTS);
  readonly #protocol = new Uint8Array(SLOTS);
  /** Forward index + 1; 0: free. */
  readonly #forward = new Uint16Array(SLOTS);
  readonly #used = new Uint32Array(SLOTS);
  #clock = 0;

  /** Notes that replies from `hostIp`:`hostPort` to this guest port belong to `forward` (an index). */
  put(
    protocol: number,
    guestIp: number,
    guestPort: number,
    hostIp: number,
    hostPort: number,
    forward: number,
  ): void {
    const ports = (guestPort << 16) | hostPort;
    const slot = this.#find(protocol, guestIp | 0, ports, hostIp | 0, true);
    this.#protocol[slot] = protocol;
    this.#guestIp[slot] = guestIp;
    this.#ports[slot] = ports;
    this.#hostIp[slot] = hostIp;
    this.#forward[slot] = forward + 1;
    this.#used[slot] = this.#tick();
  }

  /** Index of the forward, or -1 when there is no such flow. */
  get(protocol: number, guestIp: number, guestPort: number, hostIp: number, hostPort: number): number {
    const slot = this.#find(protocol, guestIp | 0, (guestPort << 16) | hostPort, hostIp | 0, false);
    if (slot < 0) return -1;
    this.#used[slot] = this.#tick();
    return (this.#forward[slot] as number) - 1;
  }

  #tick(): number {
    this.#clock = (this.#clock + 1) >>> 0;
    return this.#clock;
  }

  /** Slot of the key; when it is absent -1, or with `claim` a slot to put it in. */
  #find(protocol: number, guestIp: number, ports: number, hostIp: number, claim: boolean): number {
    const start = hash(guestIp ^ protocol, ports, hostIp);
    let best = -1;
    let bestAge = -1;
    for (let probe = 0; probe < PROBES; probe++) {
      const slot = (start + probe) & (SLOTS - 1);
      if (this.#forward[slot] === 0) return claim ? slot : -1;
      const same =
        this.#guestIp[slot] === guestIp && this.#ports[slot] === ports && this.#hostIp[slot] === hostIp;
      if (same && this.#protocol[slot] === protocol) return slot;
      const age = (this.#clock - (this.#used[slot] as number)) >>> 0;
      if (age > bestAge) {
        best = slot;
        bestAge = age;
      }
    }
    return claim ? best : -1;
  }
}

function hash(a: number, b: number, c: number): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b, 0xc2b2ae35) ^ Math.imul(c, 0x27d4eb2f);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return (h ^ (h >>> 13)) & (SLOTS - 1);
}
