/**
 * The DHCP client of one interface: the state machine with a clock, frames and the interface's address.
 */
import { randomInt } from 'node:crypto';
import type { DhcpMessage } from '#common/wire/dhcp';
import { formatIpv4 } from '#common/wire/ipv4';
import type { Netif } from '../netif.ts';
import type { Stack } from '../stack.ts';
import type { Lease } from './lease.ts';
import { type DhcpAction, DhcpMachine, type DhcpProgress } from './machine.ts';
import { type Intent, messageFor } from './messages.ts';
import {
  BROADCAST_IP,
  BROADCAST_MAC,
  type Destination,
  dhcpFrame,
  dhcpTap,
  probeFrame,
} from './transport.ts';
import { MAX_DELAY_MS } from './wait.ts';

export interface DhcpClientOptions {
  readonly stack: Stack;
  readonly netif: Netif;
  /** Sent as option 12; may be empty. */
  readonly hostname: string;
  /** A line for the console, about a lease lost or renewed at another address. */
  readonly log: (line: string) => void;
}

export class DhcpClient {
  readonly netif: Netif;
  readonly #options: DhcpClientOptions;
  readonly #machine: DhcpMachine;
  #timer: NodeJS.Timeout | undefined;
  #serverMac: Uint8Array = BROADCAST_MAC;
  #onBound: (() => void) | undefined;
  /** Resolves with the first lease. */
  readonly bound: Promise<void>;

  constructor(options: DhcpClientOptions) {
    this.netif = options.netif;
    this.#options = options;
    this.#machine = new DhcpMachine({ mac: options.netif.mac, random: () => randomInt(2 ** 32) / 2 ** 32 });
    this.bound = new Promise((resolve) => {
      this.#onBound = resolve;
    });
  }

  get lease(): Lease | undefined {
    return this.#machine.lease;
  }

  get progress(): DhcpProgress {
    return this.#machine.progress;
  }

  /** Begins with a DISCOVER. */
  start(): void {
    this.netif.tap = dhcpTap(this.#options.stack.memory, this.netif.mac, {
      message: (message, sender) => this.#heard(message, sender),
      malformed: (reason) => {
        this.#machine.note(reason);
      },
      arp: (ip) => this.#run(this.#machine.arpSeen(performance.now(), ip)),
    });
    this.#run(this.#machine.start(performance.now()));
  }

  /** Releases the lease and stops. The interface keeps its address until it is closed. */
  close(): void {
    this.#run(this.#machine.stop(performance.now()));
    clearTimeout(this.#timer);
    this.netif.tap = undefined;
  }

  #heard(message: DhcpMessage, sender: Uint8Array): void {
    const actions = this.#machine.receive(performance.now(), message);
    if (actions.length > 0) this.#serverMac = sender;
    this.#run(actions);
  }

  #run(actions: readonly DhcpAction[]): void {
    for (const action of actions) this.#do(action);
    clearTimeout(this.#timer);
    if (this.#machine.wakeAt === Number.POSITIVE_INFINITY) return;
    const delay = Math.min(Math.max(0, this.#machine.wakeAt - performance.now()), MAX_DELAY_MS);
    this.#timer = setTimeout(this.#tick, delay).unref();
  }

  readonly #tick = (): void => {
    const now = performance.now();
    this.#run(now >= this.#machine.wakeAt - 1 ? this.#machine.tick(Math.max(now, this.#machine.wakeAt)) : []);
  };

  #do(action: DhcpAction): void {
    switch (action.kind) {
      case 'send':
        this.#send(action.intent);
        return;
      case 'probe': {
        const frame = probeFrame(action.ip, this.netif.mac);
        this.netif.sendFrame(frame, frame.length);
        return;
      }
      case 'configure':
        this.#configure(action.lease);
        return;
      case 'deconfigure':
        this.netif.setAddress(0, 0, 0);
        this.#options.log(
          `Interface '${this.netif.name}' lost its address as ${action.reason}: asking for a new one`,
        );
        return;
    }
  }

  #send(intent: Intent): void {
    const message = messageFor(intent, this.netif.mac, this.#options.hostname);
    const frame = dhcpFrame(message, this.netif.mac, this.#destination(intent));
    this.netif.sendFrame(frame, frame.length);
  }

  #destination({ verb, lease }: Intent): Destination {
    const unicast = verb === 'RENEW' || verb === 'RELEASE';
    if (!unicast || lease === undefined) return { mac: BROADCAST_MAC, ip: BROADCAST_IP };
    return { mac: this.#serverMac, ip: lease.server };
  }

  #configure(lease: Lease): void {
    const { netif } = this;
    const changed =
      netif.ip !== lease.ip || netif.netmask !== lease.netmask || netif.gateway !== lease.gateway;
    if (lease.mtu !== undefined) netif.setMtu(lease.mtu);
    const before = netif.ip;
    if (changed) netif.setAddress(lease.ip, lease.netmask, lease.gateway);
    if (before !== 0 && before !== lease.ip) {
      this.#options.log(`Interface '${netif.name}' now has the address ${formatIpv4(lease.ip)}`);
    }
    this.#onBound?.();
  }
}
