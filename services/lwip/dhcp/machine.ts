/**
 * DHCP client, the state machine alone [RFC 2131 §4.4]: messages, ARP answers and times in, actions out.
 *
 *     INIT -> SELECTING -> REQUESTING -> PROBING -> BOUND -> RENEWING -> REBINDING -> (expired) INIT
 *                 ^------------ NAK, no answer, address in use --------------'
 *
 * It has no clock, no socket and no randomness of its own: `now` (ms) comes with each event, the machine says when it
 * wants to be woken (`wakeAt`). INIT-REBOOT is left out: a task keeps nothing from its last life.
 */
import { DHCP_OPTION, DHCP_TYPE, type DhcpMessage } from '#common/wire/dhcp';
import { dhcpType, optionU32 } from '#common/wire/dhcp_options';
import { formatIpv4 } from '#common/wire/ipv4';
import { type Lease, leaseOf } from './lease.ts';
import { type Intent, refusal } from './messages.ts';

export type DhcpState =
  | 'INIT'
  | 'SELECTING'
  | 'REQUESTING'
  | 'PROBING'
  | 'BOUND'
  | 'RENEWING'
  | 'REBINDING'
  | 'STOPPED';

/** What the machine wants done. */
export type DhcpAction =
  | { readonly kind: 'send'; readonly intent: Intent }
  | { readonly kind: 'probe'; readonly ip: number }
  | { readonly kind: 'configure'; readonly lease: Lease }
  | { readonly kind: 'deconfigure'; readonly reason: string };

/** Counted for the messages to the user. */
export interface DhcpProgress {
  discoversSent: number;
  requestsSent: number;
  /** Why messages were not taken, newest last, at most 8. */
  readonly ignored: string[];
  naks: number;
  declined: number;
}

export interface DhcpMachineOptions {
  readonly mac: Uint8Array;
  /** 0 <= r < 1. */
  readonly random: () => number;
}

/** First wait for an answer; doubles up to the largest, each +-1 s at most [RFC 2131 §4.1]. */
const FIRST_WAIT_MS = 1000;
const MAX_WAIT_MS = 64_000;
/** REQUESTs before the machine starts over. */
const MAX_REQUESTS = 4;
/** ARP probes for the offered address [RFC 2131 §4.4.1] and the time after the last one. */
const PROBES = 2;
const PROBE_GAP_MS = 30;
/** After a DECLINE the client must wait [RFC 2131 §3.1 (5)]. */
const DECLINE_WAIT_MS = 10_000;
const MIN_RENEW_WAIT_MS = 60_000;
const MAX_IGNORED = 8;

export class DhcpMachine {
  state: DhcpState = 'INIT';
  /** When `tick` is to be called, ms; Infinity = not at all. */
  wakeAt = Number.POSITIVE_INFINITY;
  lease: Lease | undefined;
  readonly progress: DhcpProgress = { discoversSent: 0, requestsSent: 0, ignored: [], naks: 0, declined: 0 };
  readonly #options: DhcpMachineOptions;
  #xid = 0;
  #startedAt = 0;
  #tries = 0;
  #offer: Lease | undefined;
  #sentAt = 0;
  /** The first NAK is followed by a DISCOVER at once; servers that disagree would otherwise keep us talking for ever. */
  #afterNak = 0;

  constructor(options: DhcpMachineOptions) {
    this.#options = options;
  }

  start(now: number): DhcpAction[] {
    this.#startedAt = now;
    return this.#discover(now, true);
  }

  /** A UDP payload that arrived for port 68. Anything hostile or foreign is noted in `progress.ignored`. */
  receive(now: number, message: DhcpMessage): DhcpAction[] {
    const reason = refusal(message, this.#xid, this.#options.mac);
    if (reason !== undefined) return this.#ignore(reason);
    switch (dhcpType(message)) {
      case DHCP_TYPE.OFFER:
        return this.state === 'SELECTING' ? this.#takeOffer(now, message) : [];
      case DHCP_TYPE.ACK:
        return this.#takeAck(now, message);
      case DHCP_TYPE.NAK:
        return this.#takeNak(now, message);
      default:
        return this.#ignore(`a message of type ${dhcpType(message)} is nothing a server sends`);
    }
  }

  /** Somebody uses `ip` (an ARP packet from it was seen). */
  arpSeen(now: number, ip: number): DhcpAction[] {
    const offer = this.#offer;
    if (this.state !== 'PROBING' || offer === undefined || ip !== offer.ip) return [];
    this.progress.declined++;
    this.#ignore(`${formatIpv4(ip)} was offered but another host uses it already (declined)`);
    this.#pause(now + DECLINE_WAIT_MS);
    return [{ kind: 'send', intent: this.#intent(now, 'DECLINE', offer) }];
  }

  /** To be called at `wakeAt`. */
  tick(now: number): DhcpAction[] {
    switch (this.state) {
      case 'INIT':
        return this.#discover(now, true);
      case 'SELECTING':
        return this.#discover(now, false);
      case 'REQUESTING':
        return this.#tries >= MAX_REQUESTS ? this.#discover(now, true) : this.#request(now);
      case 'PROBING':
        return this.#tries < PROBES ? this.#probe(now) : this.#bind(now);
      case 'BOUND':
      case 'RENEWING':
      case 'REBINDING':
        return this.#extend(now);
      case 'STOPPED':
        return [];
    }
  }

  /** Gives the lease back [RFC 2131 §4.4.6]. */
  stop(now: number): DhcpAction[] {
    const lease = this.lease;
    this.state = 'STOPPED';
    this.wakeAt = Number.POSITIVE_INFINITY;
    this.lease = undefined;
    return lease === undefined ? [] : [{ kind: 'send', intent: this.#intent(now, 'RELEASE', lease) }];
  }

  // ---- getting a lease ----

  #discover(now: number, fresh: boolean): DhcpAction[] {
    if (fresh) {
      this.#newXid();
      this.#tries = 0;
      this.#offer = undefined;
    }
    this.state = 'SELECTING';
    this.progress.discoversSent++;
    this.#backOff(now);
    return [{ kind: 'send', intent: this.#intent(now, 'DISCOVER') }];
  }

  #pause(until: number): DhcpAction[] {
    this.state = 'INIT';
    this.#offer = undefined;
    this.wakeAt = until;
    return [];
  }

  #takeOffer(now: number, message: DhcpMessage): DhcpAction[] {
    const offer = leaseOf(message, now);
    if (typeof offer === 'string') return this.#ignore(offer);
    this.#offer = offer;
    this.#tries = 0;
    return this.#request(now);
  }

  #request(now: number): DhcpAction[] {
    this.state = 'REQUESTING';
    this.progress.requestsSent++;
    this.#sentAt = now;
    this.#backOff(now);
    return [{ kind: 'send', intent: this.#intent(now, 'REQUEST', this.#offer) }];
  }

  #takeAck(now: number, message: DhcpMessage): DhcpAction[] {
    const requesting = this.state === 'REQUESTING';
    if (!requesting && this.state !== 'RENEWING' && this.state !== 'REBINDING') return [];
    // The lease counts from when the request was sent [RFC 2131 §4.4.1].
    const lease = leaseOf(message, this.#sentAt);
    if (typeof lease === 'string') return this.#ignore(lease);
    if (requesting) {
      if (lease.ip !== this.#offer?.ip) {
        return this.#ignore(`an ACK gave ${formatIpv4(lease.ip)}, which was not asked for`);
      }
      this.#offer = lease;
      this.#tries = 0;
      return this.#probe(now);
    }
    this.#offer = lease;
    return this.#bind(now);
  }

  #probe(now: number): DhcpAction[] {
    const offer = this.#offer;
    if (offer === undefined) return this.#discover(now, true);
    this.state = 'PROBING';
    this.#tries++;
    this.wakeAt = now + PROBE_GAP_MS;
    return [{ kind: 'probe', ip: offer.ip }];
  }

  #bind(now: number): DhcpAction[] {
    const lease = this.#offer;
    if (lease === undefined) return this.#discover(now, true);
    this.state = 'BOUND';
    this.lease = lease;
    this.#afterNak = 0;
    this.wakeAt = Math.max(lease.renewAt, now);
    return [{ kind: 'configure', lease }];
  }

  #takeNak(now: number, message: DhcpMessage): DhcpAction[] {
    const lease = this.lease ?? this.#offer;
    if (lease === undefined || this.state === 'SELECTING' || this.state === 'BOUND') return [];
    // In REQUESTING only the server that we chose may refuse; a NAK without option 54 is tolerated.
    const from = optionU32(message, DHCP_OPTION.SERVER_ID) ?? lease.server;
    if (this.state !== 'REBINDING' && from !== lease.server) {
      return this.#ignore(`a NAK came from ${formatIpv4(from)}, which is not the server that was asked`);
    }
    this.progress.naks++;
    this.#ignore(`server ${formatIpv4(lease.server)} refused ${formatIpv4(lease.ip)} (NAK)`);
    const wait = this.#afterNak;
    this.#afterNak = Math.min(Math.max(2 * wait, FIRST_WAIT_MS), MAX_WAIT_MS);
    return this.#lost(now, 'the server took the address back (NAK)', wait);
  }

  // ---- keeping it ----

  #extend(now: number): DhcpAction[] {
    const lease = this.lease;
    if (lease === undefined) return this.#discover(now, true);
    if (now >= lease.expiresAt) return this.#lost(now, 'the lease expired and no server extended it');
    this.state = now >= lease.rebindAt ? 'REBINDING' : 'RENEWING';
    // Half of what is left, but not below a minute [RFC 2131 §4.4.5].
    const end = this.state === 'RENEWING' ? lease.rebindAt : lease.expiresAt;
    const wait = Math.max((end - now) / 2, MIN_RENEW_WAIT_MS);
    this.wakeAt = Math.min(now + wait, end);
    this.progress.requestsSent++;
    this.#sentAt = now;
    this.#newXid();
    return [
      { kind: 'send', intent: this.#intent(now, this.state === 'RENEWING' ? 'RENEW' : 'REBIND', lease) },
    ];
  }

  /** Starts over, after `wait` ms. */
  #lost(now: number, reason: string, wait = 0): DhcpAction[] {
    const had = this.lease !== undefined;
    this.lease = undefined;
    this.#startedAt = now;
    const actions = wait === 0 ? this.#discover(now, true) : this.#pause(now + wait);
    return had ? [{ kind: 'deconfigure', reason }, ...actions] : actions;
  }

  // ---- small things ----

  #newXid(): void {
    this.#xid = Math.floor(this.#options.random() * 2 ** 32);
  }

  #backOff(now: number): void {
    const wait = Math.min(FIRST_WAIT_MS * 2 ** this.#tries, MAX_WAIT_MS);
    const jitter = (this.#options.random() - 0.5) * Math.min(wait, 2000);
    this.#tries++;
    this.wakeAt = now + wait + jitter;
  }

  #intent(now: number, verb: Intent['verb'], lease?: Lease): Intent {
    const secs = Math.min(Math.floor((now - this.#startedAt) / 1000), 0xffff);
    return { verb, xid: this.#xid, secs, lease };
  }

  #ignore(reason: string): DhcpAction[] {
    this.note(reason);
    return [];
  }

  /** Why something that came was not taken. */
  note(reason: string): void {
    this.progress.ignored.push(reason);
    if (this.progress.ignored.length > MAX_IGNORED) this.progress.ignored.shift();
  }
}
