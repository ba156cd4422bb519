/**
 * Who is handled when (F3.9): the work of the switch's pump.
 *
 * A port is *active* from its kick until it has been found empty for a while. Active ports are polled in turn, at
 * most BURST frames each, with their notifications off; after each port everything finished is shown to its
 * receiver, and interrupts go out once per port and round. An idle port is in no list and costs nothing.
 */
import type { PumpWork } from '#common/shm/pump';
import type { Fabric } from './fabric.ts';
import { PortSet } from './port_set.ts';

/** Most frames of one port before the others get their turn. */
export const BURST = 128;
/** Rounds without a frame after which a port is not polled any more while others keep the switch awake. */
const QUIET_ROUNDS = 256;
/** Frames after which interrupts are not held back until the end of the round. */
const INTERRUPT_AFTER = 128;

export class Scheduler implements PumpWork {
  readonly #fabric: Fabric;
  readonly #active: PortSet;
  readonly #wanting: PortSet;
  readonly #quiet: Uint16Array;

  constructor(fabric: Fabric) {
    const { slots } = fabric;
    this.#fabric = fabric;
    this.#active = new PortSet(slots);
    this.#wanting = new PortSet(slots);
    this.#quiet = new Uint16Array(slots);
  }

  /** The port's other side has notified us. The pump is to be kicked as well. */
  activate(port: number): void {
    this.#quiet[port] = 0;
    if (this.#active.has(port)) return;
    this.#fabric.endpoint(port)?.disableNotifications();
    this.#active.add(port);
  }

  /** The port is gone. */
  forget(port: number): void {
    this.#active.remove(port);
    this.#wanting.remove(port);
  }

  poll(): boolean {
    let frames = 0;
    let sinceInterrupt = 0;
    for (let n = 0; n < this.#active.size; ) {
      const port = this.#active.at(n);
      const taken = this.#fabric.endpoint(port)?.handle(BURST) ?? 0;
      if (taken > 0) {
        this.#quiet[port] = 0;
        this.#fabric.publishTouched(this.#wanting);
        frames += taken;
        sinceInterrupt += taken;
        if (sinceInterrupt >= INTERRUPT_AFTER) {
          this.#interrupt();
          sinceInterrupt = 0;
        }
      } else if (this.#retire(port)) {
        this.#active.removeAt(n);
        continue;
      }
      n += 1;
    }
    this.#interrupt();
    return frames > 0;
  }

  arm(): boolean {
    for (let n = this.#active.size - 1; n >= 0; n--) {
      const port = this.#active.at(n);
      const endpoint = this.#fabric.endpoint(port);
      if (endpoint?.enableNotifications() === true) endpoint.disableNotifications();
      else this.#active.removeAt(n);
    }
    return this.#active.size > 0;
  }

  disarm(): void {
    // `activate` and `arm` leave exactly the active ports with notifications off.
  }

  #interrupt(): void {
    for (let n = 0; n < this.#wanting.size; n++) this.#fabric.endpoint(this.#wanting.at(n))?.interrupt();
    this.#wanting.clear();
  }

  /** Found empty once more: true when the port goes to sleep. */
  #retire(port: number): boolean {
    const quiet = (this.#quiet[port] as number) + 1;
    this.#quiet[port] = quiet;
    if (quiet < QUIET_ROUNDS) return false;
    this.#quiet[port] = 0;
    const endpoint = this.#fabric.endpoint(port);
    if (endpoint?.enableNotifications() !== true) return true;
    endpoint.disableNotifications();
    return false;
  }
}
