/**
 * Two taps whose frames carry virtio-net headers, each the driver of a port of one forwarder: what the kernel leaves
 * to offloads is what our ports are asked for. For `kernel_offload.test.ts`, in a network of its own.
 *
 * argv: JSON of BridgeOptions. Each tap is given to the process whose id comes on a line of stdin; then frames flow
 * until stdin ends, and a line of JSON, a BridgeReport, is written.
 */
import { execFileSync } from 'node:child_process';
import { constants, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Arena } from '../../services/common/shm/arena.ts';
import { DeviceQueue } from '../../services/common/virtio/device_queue.ts';
import { DriverQueue } from '../../services/common/virtio/driver_queue.ts';
import {
  F_EVENT_IDX,
  featureSet,
  hasFeature,
  NET_F_GUEST_TSO4,
  NET_F_MRG_RXBUF,
} from '../../services/common/virtio/features.ts';
import { layoutQueue, queueBytes } from '../../services/common/virtio/layout.ts';
import { flags, gsoType, NET_HDR_SIZE, numBuffers } from '../../services/common/virtio/net_header.ts';
import { Regions } from '../../services/common/virtio/regions.ts';
import { Scheduler } from '../../services/common/vnet/scheduler.ts';
import { SCRATCH_BYTES, VirtioPort } from '../../services/common/vnet/virtio_port.ts';
import { Forwarder } from '../../services/l4vio_switch/forward.ts';
import { Log } from '../../services/l4vio_switch/log.ts';
import { ioctl, lastError, read, write } from '../../services/machine/wires/libc.ts';

export interface BridgeOptions {
  /** Numbers of the features that both drivers have negotiated. */
  readonly features: readonly number[];
  /** TUN_F_*: what the kernel may leave to us. */
  readonly offloads: number;
}

export interface BridgeReport {
  /** Frames with a gso_type, and with NEEDS_CSUM alone, from the kernel and to it. */
  readonly gsoIn: number;
  readonly csumIn: number;
  readonly gsoOut: number;
  readonly csumOut: number;
  readonly refused: string[];
}

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const IFF_TAP_NO_PI_VNET_HDR = 0x2 | 0x1000 | 0x4000;
const ENTRIES = 256;
/** A frame of any size fits a slot. */
const SLOT = 66_048;
const SMALL = 2048;
const RINGS = 2 * queueBytes(ENTRIES);

const options = JSON.parse(String(process.argv[2])) as BridgeOptions;
const features = featureSet(F_EVENT_IDX, ...options.features);
const arena = new Arena(2 ** 27);
const fabric = new Forwarder(2, new Log({ out: () => {}, err: () => {} }));
const scheduler = new Scheduler(fabric);
const count = { gsoIn: 0, csumIn: 0, gsoOut: 0, csumOut: 0, refused: [] as string[] };

function openTap(name: string): number {
  const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  const at = arena.mapPrivate(64);
  arena.u8.set(Buffer.from(name), at);
  arena.view.setUint16(at + 16, IFF_TAP_NO_PI_VNET_HDR, true);
  arena.view.setInt32(at + 48, NET_HDR_SIZE, true);
  const failed =
    ioctl(fd, TUNSETIFF, arena.address + at) < 0 ||
    ioctl(fd, TUNSETVNETHDRSZ, arena.address + at + 48) < 0 ||
    ioctl(fd, TUNSETOFFLOAD, options.offloads) < 0;
  if (failed) throw new Error(`Cannot open ${name} with virtio-net headers: ${lastError()}`);
  return fd;
}

/** The driver of one port, whose network is a tap. */
class TapDriver {
  readonly #fd: number;
  readonly #rx: DriverQueue;
  readonly #tx: DriverQueue;
  readonly #slots: number;
  readonly #free = Array.from({ length: ENTRIES }, (_, n) => ENTRIES + n);
  readonly #slotOf = new Uint16Array(ENTRIES);
  readonly #joined = arena.mapPrivate(2 * SLOT);
  readonly #room: number;

  constructor(number: number, name: string) {
    const bytes = RINGS + 2 * ENTRIES * SLOT;
    const at = arena.mapPrivate(bytes);
    this.#slots = at + RINGS;
    const merge = hasFeature(features, NET_F_MRG_RXBUF);
    this.#room = hasFeature(features, NET_F_GUEST_TSO4) && !merge ? SLOT : SMALL;
    const layouts = [layoutQueue(ENTRIES, at), layoutQueue(ENTRIES, at + queueBytes(ENTRIES))] as const;
    [this.#rx, this.#tx] = [
      new DriverQueue(arena, layouts[0], features),
      new DriverQueue(arena, layouts[1], features),
    ];
    const regions = new Regions(1);
    regions.add(at, bytes, at, true);
    const port = new VirtioPort({
      number,
      nic: false,
      memory: arena,
      scratch: arena.mapPrivate(SCRATCH_BYTES),
      fabric,
      device: {
        fail: (error) => count.refused.push(error.message),
        interrupt: () => {},
        invalidRequest: (why) => count.refused.push(why ?? 'invalid request'),
      },
    });
    const [rx, tx] = layouts.map((layout) => new DeviceQueue(arena, layout, features, regions)) as [
      DeviceQueue,
      DeviceQueue,
    ];
    port.start(rx, tx, features);
    fabric.connect(number, port, {});
    for (let n = 0; n < ENTRIES; n++) this.#rx.add(this.#slots + n * SLOT, this.#room, true);
    this.#rx.flush();
    this.#fd = openTap(name);
  }

  /** From the kernel to the port. */
  send(): void {
    for (let head = this.#tx.pop(); head >= 0; head = this.#tx.pop())
      this.#free.push(this.#slotOf[head] as number);
    for (let n = 0; n < 64 && this.#free.length > 0; n++) {
      const slot = this.#free.at(-1) as number;
      const at = this.#slots + slot * SLOT;
      const bytes = read(this.#fd, arena.address + at, SLOT);
      if (bytes <= 0) break;
      this.#free.pop();
      if (gsoType(arena, at) !== 0) count.gsoIn += 1;
      else if (flags(arena, at) === 1) count.csumIn += 1;
      this.#slotOf[this.#tx.add(at, bytes, false)] = slot;
    }
    this.#tx.flush();
  }

  /** From the port to the kernel. */
  receive(): void {
    for (let head = this.#rx.pop(); head >= 0; head = this.#rx.pop()) {
      const first = this.#slots + head * SLOT;
      let [at, bytes] = [first, this.#rx.usedLength];
      if (gsoType(arena, at) !== 0) count.gsoOut += 1;
      else if (flags(arena, at) === 1) count.csumOut += 1;
      const chains = numBuffers(arena, at);
      for (let n = 1; n < chains; n++) {
        if (n === 1) arena.u8.copyWithin(this.#joined, at, at + bytes);
        at = this.#joined;
        const next = this.#rx.pop();
        const from = this.#slots + next * SLOT;
        arena.u8.copyWithin(at + bytes, from, from + this.#rx.usedLength);
        bytes += this.#rx.usedLength;
        this.#rx.add(from, this.#room, true);
      }
      write(this.#fd, arena.address + at, bytes);
      this.#rx.add(first, this.#room, true);
    }
    this.#rx.flush();
  }
}

const drivers = ['tapA', 'tapB'].map((name, number) => new TapDriver(number, name));
let ended = false;
const lines = createInterface({ input: process.stdin });
let moved = 0;
lines.on('line', (pid) => {
  execFileSync('ip', ['link', 'set', moved++ === 0 ? 'tapA' : 'tapB', 'netns', pid]);
  console.log('moved');
});
lines.on('close', () => {
  ended = true;
});

function turn(): void {
  for (const driver of drivers) driver.send();
  for (const number of [0, 1]) scheduler.activate(number);
  for (let n = 0; n < 8 && scheduler.poll(); n++);
  for (const driver of drivers) driver.receive();
  if (!ended) setImmediate(turn);
  else console.log(JSON.stringify(count satisfies BridgeReport));
}
turn();
