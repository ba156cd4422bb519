/** A set of port numbers that is filled and emptied often: no allocation, no scan over absent ports. */
export class PortSet {
  readonly #list: Int16Array;
  readonly #has: Uint8Array;
  size = 0;

  constructor(ports: number) {
    this.#list = new Int16Array(ports);
    this.#has = new Uint8Array(ports);
  }

  has(port: number): boolean {
    return this.#has[port] === 1;
  }

  /** The port at `index` in 0 to size - 1. */
  at(index: number): number {
    return this.#list[index] as number;
  }

  add(port: number): void {
    if (this.#has[port] === 1) return;
    this.#has[port] = 1;
    this.#list[this.size++] = port;
  }

  /** Takes the port at `index` out; the last one moves there. */
  removeAt(index: number): void {
    this.#has[this.at(index)] = 0;
    this.size -= 1;
    this.#list[index] = this.#list[this.size] as number;
  }

  remove(port: number): void {
    if (!this.has(port)) return;
    let index = 0;
    while (this.at(index) !== port) index++;
    this.removeAt(index);
  }

  clear(): void {
    while (this.size > 0) this.removeAt(this.size - 1);
  }
}
