/**
 * What one frame costs on its way through the switch, in nanoseconds of CPU, without processes, doorbells and other
 * cores. Two drivers, the forwarder and the scheduler take turns on one thread, in batches. Run:
 *
 *   node dist/test/bench/switch_path.js [FRAME [BATCH]]
 */
import { Memory } from '#common/memory';
import { DeviceQueue } from '#common/virtio/device_queue';
import { DriverQueue } from '#common/virtio/driver_queue';
import { featureSet } from '#common/virtio/features';
import { layoutQueue, queueBytes } from '#common/virtio/layout';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import { Regions } from '#common/virtio/regions';
import { Scheduler } from '#common/vnet/scheduler';
import { SCRATCH_BYTES, VirtioPort } from '#common/vnet/virtio_port';
import { Forwarder } from '../../services/l4vio_switch/forward.ts';
import { CONSOLE, Log } from '../../services/l4vio_switch/log.ts';
import { keyHi } from '../../services/l4vio_switch/mac_table.ts';
import { VLAN_NATIVE } from '../../services/l4vio_switch/vlan.ts';

const SLOTS = 256;
const LINE = 64;
/** Rounds are short, so that some of them have the core for themselves: the cost is that of a good one. */
const FRAMES = 20_480;
const ROUNDS = 400;
const GOOD = 0.05;
const PORTS = 2;

interface Side {
  readonly rx: DriverQueue;
  readonly tx: DriverQueue;
  /** Offset of the transmit buffers; the receive buffers follow. */
  readonly buffers: number;
}

function stride(frame: number): number {
  return (Math.ceil((NET_HDR_SIZE + frame) / LINE) | 1) * LINE;
}

/** Returns the cost of the switch, and of both drivers, per frame. */
function measure(frame: number, batch: number): { device: number; driver: number } {
  const step = stride(frame);
  const ring = queueBytes(SLOTS);
  const portBytes = Math.ceil((2 * ring + 2 * SLOTS * step) / LINE) * LINE;
  const memory = new Memory(new ArrayBuffer(PORTS * portBytes + (PORTS + 1) * SCRATCH_BYTES));
  const forwarder = new Forwarder(PORTS, new Log(CONSOLE));
  const scheduler = new Scheduler(forwarder);
  const sides = Array.from({ length: PORTS }, (_, number): Side => {
    const at = number * portBytes;
    const regions = new Regions(2);
    regions.add(at, portBytes, at, true);
    const layouts = [layoutQueue(SLOTS, at), layoutQueue(SLOTS, at + ring)] as const;
    const rx = new DriverQueue(memory, layouts[0], featureSet());
    const tx = new DriverQueue(memory, layouts[1], featureSet());
    rx.disableInterrupts();
    tx.disableInterrupts();
    const buffers = at + 2 * ring;
    for (let n = 0; n < SLOTS; n++) rx.add(buffers + (SLOTS + n) * step, NET_HDR_SIZE + frame, true);
    rx.flush();
    const port = new VirtioPort({
      number,
      nic: false,
      memory,
      scratch: PORTS * portBytes + number * SCRATCH_BYTES,
      fabric: forwarder,
      device: {
        fail: (error) => {
          throw error;
        },
        interrupt: () => {},
        invalidRequest: () => {
          throw new Error('a frame was refused');
        },
      },
    });
    const queue = (n: 0 | 1) => new DeviceQueue(memory, layouts[n], featureSet(), regions);
    port.start(queue(0), queue(1), featureSet());
    forwarder.connect(number, port, {});
    scheduler.activate(number);
    return { rx, tx, buffers };
  });
  const [from, to] = sides as [Side, Side];
  const mac = (n: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 0, n);
  for (let n = 0; n < SLOTS; n++) {
    memory.u8.set(mac(2), from.buffers + n * step + NET_HDR_SIZE);
    memory.u8.set(mac(1), from.buffers + n * step + NET_HDR_SIZE + 6);
  }
  forwarder.macs.learn(0x0200_0000, keyHi(0x0002, VLAN_NATIVE), 1);
  const costs: { device: number; driver: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    let [device, driver] = [0, 0];
    for (let done = 0; done < FRAMES; done += batch) {
      const start = performance.now();
      for (let n = 0; n < batch; n++) from.tx.add(from.buffers + n * step, NET_HDR_SIZE + frame, false);
      from.tx.flush();
      const middle = performance.now();
      while (scheduler.poll());
      const end = performance.now();
      while (from.tx.pop() >= 0);
      let count = 0;
      for (let head = to.rx.pop(); head >= 0; head = to.rx.pop(), count++)
        to.rx.add(to.buffers + (SLOTS + head) * step, NET_HDR_SIZE + frame, true);
      to.rx.flush();
      if (count !== batch) throw new Error(`${count} of ${batch} frames came`);
      device += end - middle;
      driver += middle - start + performance.now() - end;
    }
    costs.push({ device: (device * 1e6) / FRAMES, driver: (driver * 1e6) / FRAMES });
  }
  const good = (key: 'device' | 'driver'): number =>
    costs.map((cost) => cost[key]).sort((a, b) => a - b)[Math.floor(ROUNDS * GOOD)] ?? 0;
  return { device: good('device'), driver: good('driver') };
}

const [frame = 64, batch = 64] = process.argv.slice(2).map(Number);
const { device, driver } = measure(frame, batch);
console.log(`switch ${device.toFixed(1)} ns/frame, both drivers ${driver.toFixed(1)} ns/frame`);
