/** Where frames go: a pcapng file, pcapng on standard output, or a line of text for each. */
import { CAPTURE_BYTES, CaptureFile } from '#common/capture/file';
import { PcapngWriter } from '#common/capture/writer';
import type { Arena } from '#common/shm/arena';
import type { Output } from '#common/task/env';
import { get16 } from '#common/wire/bytes';
import { ETH, ETHERTYPE, formatMac, VLAN } from '#common/wire/ethernet';
import type { FrameSink } from './listener.ts';

/** Direction of a packet whose direction nobody knows. */
const UNKNOWN = 0;
/** Bytes that may wait for a reader of standard output. */
const MAX_PENDING = 16 * 2 ** 20;

export interface FrameOutput extends FrameSink {
  /** Frames that a slow reader cost. */
  readonly lost: number;
  /** Bytes that wait for the reader. */
  readonly pending: number;
  /** Hands over what is still here, however long the reader takes. */
  close(): Promise<void>;
}

const now = (): number => performance.timeOrigin + performance.now();

/** Throws when the file cannot be made; `onError` hears when it cannot be written later. */
export function fileOutput(
  path: string,
  arena: Arena,
  port: string,
  onError: (text: string) => void,
): FrameOutput {
  const file = new CaptureFile(path, arena, arena.mapPrivate(CAPTURE_BYTES), onError);
  file.writer.interface(port);
  return {
    lost: 0,
    pending: 0,
    frame: (offset, length) => file.writer.packet(0, now(), UNKNOWN, offset, length),
    endBatch: () => file.writer.flush(),
    close: async () => file.close(),
  };
}

/** An output whose reader may be slow: what is written waits, but not without bound. */
class BoundedOutput {
  readonly #output: Output;
  /** Bytes that wait. */
  pending = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(output: Output) {
    this.#output = output;
  }

  get full(): boolean {
    return this.pending > MAX_PENDING;
  }

  write(data: Uint8Array): void {
    this.pending += data.length;
    this.#last = this.#output.write(data).then(() => {
      this.pending -= data.length;
    });
  }

  /** Resolves when the last write has left. */
  async close(): Promise<void> {
    await this.#last;
  }
}

/** pcapng. */
export class StreamOutput implements FrameOutput {
  lost = 0;
  readonly #output: BoundedOutput;
  readonly #writer: PcapngWriter;

  constructor(output: Output, arena: Arena, port: string) {
    this.#output = new BoundedOutput(output);
    this.#writer = new PcapngWriter(arena, arena.mapPrivate(CAPTURE_BYTES), CAPTURE_BYTES, (at, length) =>
      this.#output.write(arena.u8.slice(at, at + length)),
    );
    this.#writer.section('l4lab netdump');
    this.#writer.interface(port);
    this.#writer.flush();
  }

  get pending(): number {
    return this.#output.pending;
  }

  frame(offset: number, length: number): void {
    if (this.#output.full) this.lost += 1;
    else this.#writer.packet(0, now(), UNKNOWN, offset, length);
  }

  endBatch(): void {
    this.#writer.flush();
  }

  async close(): Promise<void> {
    this.#writer.flush();
    await this.#output.close();
  }
}

/** A line for each frame. */
export class TextOutput implements FrameOutput {
  lost = 0;
  readonly #arena: Arena;
  readonly #output: BoundedOutput;

  constructor(output: Output, arena: Arena) {
    this.#arena = arena;
    this.#output = new BoundedOutput(output);
  }

  get pending(): number {
    return this.#output.pending;
  }

  frame(offset: number, length: number): void {
    if (this.#output.full) this.lost += 1;
    else this.#output.write(Buffer.from(`${frameLine(this.#arena.u8, offset, length)}\n`));
  }

  endBatch(): void {}

  async close(): Promise<void> {
    await this.#output.close();
  }
}

const TYPE_NAMES = new Map<number, string>([
  [ETHERTYPE.ARP, 'ARP'],
  [ETHERTYPE.IPV4, 'IPv4'],
  [ETHERTYPE.IPV6, 'IPv6'],
]);

/** `02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff vlan 5 ARP 46 bytes`. */
export function frameLine(u8: Uint8Array, at: number, length: number): string {
  if (length < ETH.HEADER) return `runt ${length} bytes`;
  const addresses = `${formatMac(u8, at + ETH.SOURCE)} > ${formatMac(u8, at + ETH.DESTINATION)}`;
  const tagged = get16(u8, at + VLAN.TPID) === ETHERTYPE.VLAN && length >= VLAN.HEADER;
  const vlan = tagged ? ` vlan ${get16(u8, at + VLAN.TCI) & 0xfff}` : '';
  const type = get16(u8, at + (tagged ? VLAN.TYPE : ETH.TYPE));
  const name = TYPE_NAMES.get(type) ?? `0x${type.toString(16).padStart(4, '0')}`;
  return `${addresses}${vlan} ${name} ${length} bytes`;
}
