/**
 * Captures whose other side lies: a reader that writes anything anywhere into the ring it shares with the switch, a switch that
 * does so to its reader, and files that were made by nobody.
 *
 * The switch writes into the ring and nowhere else and never waits; a reader gets frames that lie in the ring, or RingBroken;
 * a file gives packets, or a CaptureError.
 */
import fc from 'fast-check';
import { DROP_REASONS } from '#common/capture/drop_reasons';
import { CaptureError } from '#common/capture/pcapng';
import { PcapngReader } from '#common/capture/reader';
import { dataOffset, RECORD, RING, ringBytes } from '#common/capture/ring';
import { RingBroken, RingReader } from '#common/capture/ring_reader';
import { RingWriter } from '#common/capture/ring_writer';
import { PcapngWriter } from '#common/capture/writer';
import { Memory } from '#common/memory';
import { Random } from '#common/testing/random';

const GUARD = 4096;
const CAPACITY = 8192;
const INTERFACES = 3;
const BYTES = ringBytes(INTERFACES, CAPACITY);
const FILE_AT = 2 * GUARD + BYTES;
const FILE_BYTES = 64 * 1024;
const MEMORY = FILE_AT + FILE_BYTES;

export interface CaptureProgram {
  readonly half: 'capture';
  readonly bursts: readonly (readonly [seed: number, count: number])[];
}

export function capturePrograms(): fc.Arbitrary<CaptureProgram> {
  return fc.record({
    half: fc.constant('capture' as const),
    bursts: fc.array(fc.tuple(fc.nat(0xffff_ffff), fc.nat(2000)), { minLength: 1, maxLength: 10 }),
  });
}

/** Runs a program. Returns the number of lies. Throws what is wrong. */
export function runCaptureProgram({ bursts }: CaptureProgram): number {
  let operations = 0;
  for (const [seed, count] of bursts) {
    const rig = new CaptureRig(new Random(seed));
    for (let n = 0; n < count; n++) rig.step();
    rig.check();
    operations += count + rig.files();
  }
  return operations;
}

class CaptureRig {
  readonly #random: Random;
  readonly #memory = new Memory(new ArrayBuffer(MEMORY));
  readonly #writer: RingWriter;
  #reader: RingReader;

  constructor(random: Random) {
    this.#random = random;
    const { u8 } = this.#memory;
    for (const at of [0, GUARD + BYTES]) u8.fill(0xa5, at, at + GUARD);
    this.#writer = new RingWriter(this.#memory, GUARD, INTERFACES, CAPACITY, () => {});
    this.#reader = new RingReader(this.#memory, GUARD, BYTES, INTERFACES);
  }

  /** A lie, then the switch writes and the reader reads. */
  step(): void {
    const random = this.#random;
    this.#lie();
    const about = random.below(INTERFACES);
    const captured = random.pick([0, 14, 60, 1514, 9000, random.below(3000)]);
    const to = this.#writer.begin(about, captured);
    if (to >= 0) {
      this.#memory.u8.fill(random.u32(), to, to + captured);
      this.#writer.commit(about, captured, 1, random.below(DROP_REASONS + 1) - 1, 0, 0);
    }
    if (random.oneIn(50)) this.#writer.end(about);
    if (random.oneIn(2)) this.#read();
    if (random.oneIn(4)) this.#reader.arm();
  }

  check(): void {
    for (const at of [0, GUARD + BYTES])
      if (this.#memory.u8.subarray(at, at + GUARD).some((byte) => byte !== 0xa5))
        throw new Error('something was written outside of the ring');
  }

  /** Files with a few wrong bytes, in pieces of any size. Returns their number. */
  files(): number {
    const random = this.#random;
    const good = this.#file();
    for (let n = 0; n < 20; n++) {
      const bytes = Buffer.from(good);
      for (let lies = random.below(6); lies > 0; lies--) bytes[random.below(bytes.length)] = random.u32();
      const end = random.oneIn(4) ? random.below(bytes.length) : bytes.length;
      this.#readFile(bytes.subarray(0, end));
    }
    return 20;
  }

  #lie(): void {
    const random = this.#random;
    const { u32 } = this.#memory;
    const kind = random.below(8);
    const word = (at: number) => (GUARD + at) >>> 2;
    if (kind === 0) u32[word(RING.TAIL)] = random.u32();
    else if (kind === 1) u32[word(RING.TAIL)] = (u32[word(RING.HEAD)] as number) - 8 * random.below(2000);
    else if (kind === 2) u32[word(RING.ASLEEP)] = random.u32();
    else if (kind === 3) u32[word(RING.HEAD)] = random.oneIn(4) ? random.u32() : 8 * random.below(4000);
    else if (kind === 4) u32[word(random.below(BYTES))] = random.u32();
    else if (kind === 5) {
      const record = dataOffset(INTERFACES) + 8 * random.below(CAPACITY / 8);
      u32[word(record + RECORD.SIZE)] = random.oneIn(2) ? 8 * random.below(300) : random.u32();
      u32[word(record + RECORD.CAPTURED)] = random.oneIn(3) ? 0xffff_ffff : random.below(3000);
    }
  }

  #read(): void {
    const { record } = this.#reader;
    try {
      for (let n = 0; n < 100 && this.#reader.next(); n++) {
        const from = GUARD + dataOffset(INTERFACES);
        if (
          record.at < from ||
          record.at + record.captured > GUARD + BYTES ||
          record.interfaceId >= INTERFACES
        )
          throw new Error(`a record of ${record.captured} bytes at ${record.at} is not in the ring`);
      }
      for (let n = 0; n < INTERFACES; n++) this.#reader.counts(n);
      this.#reader.release();
    } catch (err) {
      if (!(err instanceof RingBroken)) throw err;
      this.#reader = new RingReader(this.#memory, GUARD, BYTES, INTERFACES);
    }
  }

  #file(): Buffer {
    const parts: Buffer[] = [];
    const { u8 } = this.#memory;
    const writer = new PcapngWriter(this.#memory, FILE_AT, 8192, (at, length) =>
      parts.push(Buffer.from(u8.slice(at, at + length))),
    );
    writer.section('fuzz');
    for (const name of ['a', 'b']) writer.interface(name, 'port', this.#random.below(2) * 100);
    const comment = Buffer.from('dropped');
    for (let n = 0; n < 10; n++)
      writer.packet(
        n % 2,
        n,
        1,
        FILE_AT + 16_384,
        this.#random.below(200),
        n % 3 === 0 ? comment : undefined,
      );
    writer.statistics(0, 1, 10, 1);
    writer.flush();
    return Buffer.concat(parts);
  }

  #readFile(bytes: Buffer): void {
    const reader = new PcapngReader();
    const step = 1 + this.#random.below(bytes.length + 1);
    try {
      for (let at = 0; at < bytes.length; at += step)
        for (const packet of reader.push(bytes.subarray(at, at + step)))
          if (packet.bytes.length > bytes.length)
            throw new Error(`a packet of ${packet.bytes.length} bytes in a file of ${bytes.length}`);
      reader.end();
    } catch (err) {
      if (!(err instanceof CaptureError)) throw err;
    }
  }
}
