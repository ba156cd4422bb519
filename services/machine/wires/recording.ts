/**
 * A wire around a wire that records what passes to a pcapng file: `wire=...,record=FILE`.
 *
 * Directions are the NIC's: `transmit` is outbound, a frame that the NIC took is inbound. A frame the NIC has no
 * descriptor for is offered again and recorded when it is taken, so the file is what the NIC saw.
 */

import { CAPTURE_BYTES, CaptureFile } from '#common/capture/file';
import { INBOUND, OUTBOUND } from '#common/capture/pcapng';
import type { Arena } from '#common/shm/arena';
import type { Wire, WireEnd, WireLease } from '../wire.ts';
import type { WireHost } from './host.ts';

export class RecordingWire implements Wire, WireEnd {
  readonly #inner: Wire;
  readonly #arena: Arena;
  readonly #buffer: number;
  readonly #file: CaptureFile;
  readonly #interface: number;
  #end: WireEnd | undefined;

  /** Throws when the file cannot be made. */
  constructor(inner: Wire, path: string, host: WireHost) {
    this.#inner = inner;
    this.#arena = host.arena;
    this.#buffer = host.arena.mapPrivate(CAPTURE_BYTES);
    try {
      this.#file = new CaptureFile(path, host.arena, this.#buffer, (text) => host.log('error', text));
    } catch (err) {
      host.arena.unmap(this.#buffer, CAPTURE_BYTES);
      throw err;
    }
    this.#interface = this.#file.writer.interface('nic', `l4lab NIC on wire "${inner.kind}"`);
    this.#file.writer.flush();
  }

  get kind(): string {
    return this.#inner.kind;
  }

  get linkUp(): boolean {
    return this.#inner.linkUp;
  }

  connect(end: WireEnd, wake: () => void): void {
    this.#end = end;
    this.#inner.connect(this, wake);
  }

  transmit(offset: number, length: number): void {
    this.#record(OUTBOUND, offset, length);
    this.#inner.transmit(offset, length);
  }

  receive(offset: number, length: number, sound?: boolean): boolean {
    if (this.#end?.receive(offset, length, sound) !== true) return false;
    this.#record(INBOUND, offset, length);
    return true;
  }

  linkChanged(up: boolean): void {
    this.#end?.linkChanged(up);
  }

  poll(): boolean {
    return this.#inner.poll();
  }

  leases(): WireLease[] {
    return this.#inner.leases?.() ?? [];
  }

  /** Idle is the time to write: who looks at the file then sees everything. */
  arm(): boolean {
    if (this.#inner.arm()) return true;
    this.#file.writer.flush();
    return false;
  }

  close(): void {
    this.#inner.close();
    this.#file.close();
    this.#arena.unmap(this.#buffer, CAPTURE_BYTES);
  }

  #record(direction: number, offset: number, length: number): void {
    this.#file.writer.packet(
      this.#interface,
      performance.timeOrigin + performance.now(),
      direction,
      offset,
      length,
    );
  }
}
