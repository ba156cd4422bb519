/**
 * A switch that drives a hostile NIC in its own process: the e1000 driver and the NIC's port, over a device that lies while it
 * is used and in between.
 *
 *   VLAN 7: recorders 0 and 1, who must lose nothing     VLAN 8: recorder 2 and the NIC
 */
import { L4Error } from '#common/ipc/errors';
import { Random } from '#common/testing/random';
import { Scheduler } from '#common/vnet/scheduler';
import { SCRATCH_BYTES } from '#common/vnet/virtio_port';
import { BUFFER } from '#ixl/ixl';
import { type Bench, startE1000On } from '../../services/ixl/testing/fakes.ts';
import { Forwarder } from '../../services/l4vio_switch/forward.ts';
import { Log } from '../../services/l4vio_switch/log.ts';
import { MacTable } from '../../services/l4vio_switch/mac_table.ts';
import { NicPort } from '../../services/l4vio_switch/nic_port.ts';
import { evilFrame } from './evil_datagrams.ts';
import { MAGIC, numberedFrame } from './good_client.ts';
import { HookedMemory } from './hooked_memory.ts';
import { GuardedDma, HostileNic, makeLiar } from './hostile_nic.ts';
import { RECORDER_BYTES, Recorder } from './recorder.ts';
import { rest } from './rest.ts';

const RECORDERS = 3;
const NIC = 3;
const DMA_AT = Math.ceil((RECORDERS * RECORDER_BYTES + SCRATCH_BYTES) / 4096) * 4096;
const MEMORY = 4 * 2 ** 20;
const [RX_BUFFERS, TX_BUFFERS, IN_RING] = [600, 300, 256];
const MAX_TURNS = 20_000;
const MEANWHILE = 64;
/** Lines of the driver's log for one step, at most: a device must not fill it. */
const MAX_LINES = 40;

export class NicWorld {
  operations = 0;
  readonly #memory: HookedMemory;
  readonly #dma: GuardedDma;
  readonly #forwarder: Forwarder;
  readonly #scheduler: Scheduler;
  readonly #recorders: [Recorder, Recorder, Recorder];
  #bench: Bench<GuardedDma> | undefined;
  #hostile: HostileNic | undefined;
  #random = new Random(1);
  #number = 0;
  #meanwhile = 0;
  #until = 1;

  constructor() {
    this.#memory = new HookedMemory(MEMORY);
    this.#dma = new GuardedDma(this.#memory, DMA_AT);
    const log = new Log({ out: () => {}, err: () => {} });
    this.#forwarder = new Forwarder(NIC + 1, log, { macs: new MacTable(1), clock: () => 0 });
    this.#scheduler = new Scheduler(this.#forwarder);
    const recorder = (n: number) => {
      const judge = (frame: Buffer) => {
        if (frame.includes(MAGIC) === (n === 2) || frame.includes(this.#dma.word))
          throw new Error(`recorder ${n} has a frame of another VLAN, or bytes from outside of DMA memory`);
        if (frame.length > BUFFER.ROOM)
          throw new Error(`a frame of ${frame.length} bytes fits no packet buffer`);
      };
      const made = new Recorder(this.#memory, n * RECORDER_BYTES, n, this.#forwarder, judge);
      this.#forwarder.connect(n, made, { access: n === 2 ? 8 : 7 });
      return made;
    };
    this.#recorders = [recorder(0), recorder(1), recorder(2)];
  }

  /** Brings the NIC up, which lies from the `honest`th register read on, `lies` times. Resolves with false when it is refused. */
  async start(seed: number, honest: number, lies: number): Promise<boolean> {
    const random = new Random(seed);
    let liar = { lies: 0 };
    try {
      const bench = await startE1000On(this.#dma, { rxBuffers: RX_BUFFERS, txBuffers: TX_BUFFERS }, (nic) => {
        liar = makeLiar(nic, () => random);
        const read = nic.read32;
        let reads = 0;
        nic.read32 = (offset) => {
          if (reads++ === honest) liar.lies = lies;
          return read(offset);
        };
      });
      liar.lies = 0;
      this.#connect(bench, liar);
      return true;
    } catch (err) {
      this.operations += 1;
      if (!(err instanceof L4Error)) throw err;
      return false;
    }
  }

  burst(seed: number, count: number): void {
    const random = new Random(seed);
    this.#random = random;
    for (let n = 0; n < count; n++) {
      this.operations += 1;
      this.#hostile?.act(random, false);
      if (random.oneIn(4)) this.#recorders[2].send(evilFrame(random, 14 + random.below(2200)));
      if (random.oneIn(8)) this.run();
    }
  }

  /** The well-behaved pair exchanges frames, while everything else goes on. */
  exchange(count: number, length: number): void {
    const [one, two] = this.#recorders;
    for (const recorder of this.#recorders) recorder.received = [];
    const frames = Array.from({ length: count }, () =>
      numberedFrame(0, 1, this.#number++, 60 + (length % 1400)),
    );
    for (const frame of frames) one.send(frame);
    this.run();
    if (two.received.length !== count || !frames.every((frame, n) => two.received[n]?.equals(frame)))
      throw new Error(`of ${count} frames of the good pair ${two.received.length} came, or not as they were`);
  }

  /** Interrupts come, then the switch works until it sleeps. */
  run(): void {
    this.#meanwhile = MEANWHILE;
    this.#memory.onRead = () => this.#interfere();
    for (let n = 0; n < 16 && this.#hostile?.interrupt; n++) {
      this.#hostile.interrupt = false;
      this.#bench?.irq.fire();
    }
    for (const { number } of this.#recorders) this.#scheduler.activate(number);
    rest(this.#scheduler, MAX_TURNS);
    this.#memory.onRead = () => {};
  }

  check(): void {
    this.#dma.check();
    const bench = this.#bench;
    if (!bench) return;
    const { device, log, nic } = bench;
    nic.sent.length = 0;
    nic.accesses.length = 0;
    const { rxPool, txPool } = device.packets;
    const inFlight = device.getTxQueueDepth(0) - 1 - device.txRoom(0);
    if (rxPool.available !== RX_BUFFERS - IN_RING)
      throw new Error(`${rxPool.available} receive buffers are free`);
    if (txPool.available !== TX_BUFFERS - inFlight)
      throw new Error(`${txPool.available} transmit buffers are free, and ${inFlight} in the ring`);
    if (log.lines.length > MAX_LINES)
      throw new Error(`the device has caused ${log.lines.length} lines in the log`);
    log.lines.length = 0;
  }

  #connect(bench: Bench<GuardedDma>, liar: { lies: number }): void {
    const { device, nic, dma } = bench;
    this.#bench = bench;
    this.#hostile = new HostileNic(nic, dma, liar);
    const scratch = RECORDERS * RECORDER_BYTES;
    const forwarder = this.#forwarder;
    const port = new NicPort({ number: NIC, memory: this.#memory, scratch, forwarder, nic: device });
    forwarder.connect(NIC, port, { access: 8 });
    device.rebindRecvIrq(0, () => {
      if (port.onInterrupt()) this.#scheduler.activate(NIC);
    });
    this.#scheduler.activate(NIC);
  }

  /** Between two reads of the switch the device may do something. */
  #interfere(): void {
    if (this.#meanwhile === 0 || --this.#until > 0) return;
    this.#meanwhile -= 1;
    this.#until = 1 + this.#random.below(24);
    this.operations += 1;
    this.#hostile?.act(this.#random, true);
  }
}
