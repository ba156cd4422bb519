/** Why a port's link is down: its user has taken it down, or the NIC behind it has none. It is up when neither has. */

export class LinkStates {
  readonly #takenDown = new Set<number>();
  readonly #noCarrier = new Set<number>();

  /** What the user of a port wants. */
  set(port: number, up: boolean): void {
    mark(this.#takenDown, port, !up);
  }

  /** What the NIC behind a port has. */
  setCarrier(port: number, up: boolean): void {
    mark(this.#noCarrier, port, !up);
  }

  isUp(port: number): boolean {
    return !this.#takenDown.has(port) && !this.#noCarrier.has(port);
  }

  isTakenDown(port: number): boolean {
    return this.#takenDown.has(port);
  }

  lacksCarrier(port: number): boolean {
    return this.#noCarrier.has(port);
  }

  /** The port is gone. */
  forget(port: number): void {
    this.#takenDown.delete(port);
    this.#noCarrier.delete(port);
  }
}

function mark(set: Set<number>, port: number, isIn: boolean): void {
  if (isIn) set.add(port);
  else set.delete(port);
}
