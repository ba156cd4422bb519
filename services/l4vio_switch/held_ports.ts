/**
 * Ports whose next frame waits for a NIC (`uplinks.ts`). A NIC has no interrupt for a free descriptor, nor is its driver
 * asked for one: who waits looks again and again, which costs a timer only while somebody does.
 */
import { PortSet } from '#common/vnet/port_set';

/** How soon a port is looked at again. */
const RETRY_MS = 1;

export class HeldPorts {
  readonly #ports: PortSet;
  readonly #activate: (port: number) => void;
  readonly #go: () => void;
  #timer: NodeJS.Timeout | undefined;

  /** Calls `activate` for each port that is to be looked at, then `go`: in there they may be held again. */
  constructor(ports: number, activate: (port: number) => void, go: () => void) {
    this.#ports = new PortSet(ports);
    this.#activate = activate;
    this.#go = go;
  }

  add(port: number): void {
    this.#ports.add(port);
    this.#timer ??= setTimeout(this.#retry, RETRY_MS);
  }

  remove(port: number): void {
    this.#ports.remove(port);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  readonly #retry = (): void => {
    this.#timer = undefined;
    for (let n = 0; n < this.#ports.size; n++) this.#activate(this.#ports.at(n));
    this.#ports.clear();
    this.#go();
  };
}
