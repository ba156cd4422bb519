/**
 * The e1000 driver: 82540EM, QEMU's `e1000` (F5.4). Registers: #common/nic/e1000, [8254x §13].
 *
 * The order of register accesses below is the original's and part of its specification; a test records
 * it. Three accesses differ on purpose: IMS is written without being read (a write of ones sets bits),
 * RDH is read in the Wait mode only, and link changes (LSC) interrupt, too.
 */
import { L4Error } from '#common/ipc/errors';
import * as nic from '#common/nic/e1000';
import { Throttle } from '#common/obs/throttle';
import type { Mmio } from '#common/shm/mmio';
import { formatMac } from '#common/wire/ethernet';
import type { RecvIrq } from '../bringup/interrupts.ts';
import type { Clock } from '../clock.ts';
import { irqMode } from '../config.ts';
import { type DeviceStats, IxlDevice } from '../device.ts';
import { LinkWatch } from '../link.ts';
import type { Log } from '../log.ts';
import { PacketMemory } from '../memory/packet_memory.ts';
import { LegacyRxRing, RX_DEPTH, RX_RING_BYTES } from '../rings/legacy_rx_ring.ts';
import { LegacyTxRing, TX_RING_BYTES } from '../rings/legacy_tx_ring.ts';
import type { Driver, DriverContext } from './driver.ts';
import { readMacWords } from './eeprom.ts';

const { REG } = nic;
const ALL = 0xffff_ffff;

/** Least distance of interrupts in units of 256 ns: at most 97,600 a second. */
const ITR_INTERVAL = 0x28;
const IRQ_CAUSES = nic.ICR_RXT0 | nic.ICR_RXDMT0 | nic.ICR_RXO | nic.ICR_LSC;
const COLLISION_THRESHOLD = 0xf;
const COLLISION_DISTANCE = 0x40;
/** RCTL.SECRC is not set: a received length includes the FCS. The ring takes it off. */
const FCS_BYTES = 4;

const RX_REGISTERS = {
  baseLow: REG.RDBAL.offset,
  baseHigh: REG.RDBAH.offset,
  length: REG.RDLEN.offset,
  head: REG.RDH.offset,
  tail: REG.RDT.offset,
} as const;
const TX_REGISTERS = {
  baseLow: REG.TDBAL.offset,
  baseHigh: REG.TDBAH.offset,
  length: REG.TDLEN.offset,
  head: REG.TDH.offset,
  tail: REG.TDT.offset,
} as const;

interface Rings {
  readonly rx: LegacyRxRing;
  readonly tx: LegacyTxRing;
  readonly packets: PacketMemory;
}

class E1000 extends IxlDevice {
  readonly #mmio: Mmio;
  readonly #log: Log;
  readonly #clock: Clock;
  /** An overloaded NIC has one with every interrupt. */
  readonly #overruns: Throttle;
  readonly #rings: Rings;
  readonly #linkWatch: LinkWatch;
  #mac: Uint8Array = new Uint8Array(6);

  constructor(context: DriverContext, rings: Rings, irqs: readonly RecvIrq[]) {
    const { cfg, clock, release, machineGone } = context;
    const { rx, tx, packets } = rings;
    super({ cfg, clock, release, machineGone, packets, rx: [rx], tx: [tx], irqs });
    this.#mmio = context.mmio;
    this.#log = context.log;
    this.#clock = clock;
    this.#overruns = new Throttle(context.log.warn, clock.now);
    this.#rings = rings;
    this.#linkWatch = new LinkWatch(() => this.getLinkSpeed(), clock, context.log);
    this.link = this.#linkWatch;
  }

  override getDriverName(): string {
    return 'ixl-e1000';
  }

  /** F5.4 steps 1 to 14. */
  async start(linkTimeoutMs: number): Promise<void> {
    await this.#reset();
    this.#mac = await readMacWords(this.#mmio, E1000_EERD, this.#clock);
    this.#log.info(`Using MAC address ${formatMac(this.#mac)}`);
    this.#writeMac();
    this.readStats(null);
    this.#startReceive();
    await this.#startTransmit();
    if (this.irqMode !== 'disable') {
      this.#enableIrq();
      // A line that was asserted before the reset may have masked the interrupt object.
      this.recvIrq(0).unmask();
    }
    this.setPromisc(true);
    await this.#linkWatch.start(linkTimeoutMs);
  }

  override setPromisc(on: boolean): void {
    this.#log.info(`${on ? 'enabling' : 'disabling'} promisc mode`);
    const both = nic.RCTL_MPE | nic.RCTL_UPE;
    const rctl = this.#read(REG.RCTL);
    this.#write(REG.RCTL, on ? rctl | both : rctl & ~both);
  }

  override getLinkSpeed(): number {
    const status = this.#read(REG.STATUS);
    // A device that is gone reads as all ones: no link.
    if ((status & nic.STATUS_LU) === 0 || status === ALL) return 0;
    return SPEEDS.get(status & nic.STATUS_SPEED) ?? 0;
  }

  override getMacAddr(): Uint8Array {
    return this.#mac.slice();
  }

  override checkRecvIrq(queue: number): boolean {
    this.recvIrq(queue);
    const causes = this.#read(REG.ICR);
    if (causes === ALL) {
      this.markGone();
      return false;
    }
    if ((causes & nic.ICR_LSC) !== 0) this.#linkWatch.changed();
    if ((causes & nic.ICR_RXO) !== 0) this.#overruns.say('Receiver overrun: the NIC had no free descriptor.');
    if ((causes & nic.ICR_RXT0) === 0) return false;
    this.#write(REG.IMC, ALL);
    return true;
  }

  override ackRecvIrq(queue: number): void {
    const irq = this.recvIrq(queue);
    if (irq.kind === 'legacy') irq.unmask();
    this.#enableIrq();
  }

  override disableRecvIrq(queue: number): void {
    this.recvIrq(queue);
    this.#write(REG.IMC, ALL);
  }

  override readStats(stats: DeviceStats | null): void {
    const rxPackets = this.#read(REG.GPRC);
    const txPackets = this.#read(REG.GPTC);
    const rxBytes = this.#read(REG.GORCL) + this.#read(REG.GORCH) * 2 ** 32;
    const txBytes = this.#read(REG.GOTCL) + this.#read(REG.GOTCH) * 2 ** 32;
    if (!stats) return;
    stats.rxPackets += rxPackets;
    stats.txPackets += txPackets;
    stats.rxBytes += rxBytes;
    stats.txBytes += txBytes;
  }

  protected override answers(): boolean {
    return this.#read(REG.STATUS) !== ALL;
  }

  /** Reset's first half: no interrupt, no DMA from here on. The read makes sure that it has happened. */
  protected override stopHardware(): void {
    this.#write(REG.IMC, ALL);
    this.#write(REG.RCTL, 0);
    this.#write(REG.TCTL, nic.TCTL_PSP);
    this.#read(REG.STATUS);
  }

  /** Steps 1 to 4. */
  async #reset(): Promise<void> {
    this.#log.info('Resetting E1000 device.');
    this.#write(REG.IMC, ALL);
    this.#write(REG.RCTL, 0);
    this.#write(REG.TCTL, nic.TCTL_PSP);
    await this.#clock.sleep(10);
    const forced = nic.CTRL_LRST | nic.CTRL_FRCSPD | nic.CTRL_FRCDPX;
    const ctrl = (this.#read(REG.CTRL) | nic.CTRL_SLU | nic.CTRL_ASDE) & ~forced;
    this.#write(REG.CTRL, ctrl | nic.CTRL_RST);
    await this.#clock.sleep(5);
    this.#write(REG.IMC, ALL);
    this.#read(REG.ICR);
    this.#log.info('Reset completed, starting init phase.');
  }

  /** Step 6. */
  #writeMac(): void {
    const [a, b, c, d, e, f] = this.#mac as unknown as [number, number, number, number, number, number];
    this.#write(REG.RAL0, a | (b << 8) | (c << 16) | (d << 24));
    this.#write(REG.RAH0, e | (f << 8) | nic.RAH_AV);
  }

  /** Steps 8 and 10. */
  #startReceive(): void {
    this.#rings.rx.fill();
    this.#rings.rx.writeBase();
    this.#write(REG.RDH, 0);
    this.#write(REG.RDT, RX_DEPTH - 1);
    this.#write(REG.RXCSUM, this.#read(REG.RXCSUM) | nic.RXCSUM_TUOFL);
    this.#rings.tx.writeBase();
    this.#write(REG.TDH, 0);
    this.#write(REG.TDT, 0);
    this.#write(REG.RCTL, this.#read(REG.RCTL) | nic.RCTL_EN | nic.RCTL_BAM);
  }

  /** Step 11. */
  async #startTransmit(): Promise<void> {
    const collision = (0xff << nic.TCTL_CT_SHIFT) | (0x3ff << nic.TCTL_COLD_SHIFT);
    const wanted = (COLLISION_THRESHOLD << nic.TCTL_CT_SHIFT) | (COLLISION_DISTANCE << nic.TCTL_COLD_SHIFT);
    const tctl = this.#read(REG.TCTL) & ~collision;
    this.#write(REG.TCTL, tctl | wanted | nic.TCTL_EN | nic.TCTL_PSP);
    await this.#clock.sleep(1);
  }

  /** Step 12. */
  #enableIrq(): void {
    this.#write(REG.ITR, ITR_INTERVAL);
    this.#write(REG.RDTR, 0);
    this.#write(REG.IMS, IRQ_CAUSES);
  }

  #read(register: nic.Register): number {
    return this.#mmio.read32(register.offset);
  }

  #write(register: nic.Register, value: number): void {
    this.#mmio.write32(register.offset, value >>> 0);
  }
}

/** STATUS speed bits to Mbit/s; the fourth value counts as no link in the original. */
const SPEEDS = new Map([
  [0x00, 10],
  [0x40, 100],
  [0x80, 1000],
]);

const E1000_EERD = {
  register: REG.EERD.offset,
  start: nic.EERD_START,
  done: nic.EERD_DONE,
  addressShift: nic.EERD_ADDR_SHIFT,
  dataShift: nic.EERD_DATA_SHIFT,
} as const;

export const e1000Driver: Driver = {
  name: 'e1000',
  async create(context) {
    const { cfg, memory, mmio, dma } = context;
    if (cfg.numRxQueues !== 1 || cfg.numTxQueues !== 1) {
      throw new L4Error(
        'EINVAL',
        `Cannot start e1000 as it has exactly 1 receive and 1 transmit queue: asked for ${cfg.numRxQueues} and ${cfg.numTxQueues}`,
      );
    }
    const irqs = context.irqs ? [await context.irqs.msiOrLegacy()] : [];
    const packets = await PacketMemory.create(memory, dma, cfg.rxBuffers, cfg.txBuffers);
    await packets.reserve(2 * RX_DEPTH);
    // Descriptors lie in a memory of their own: peers map the packets, not these.
    const { offset, address } = await dma.allocate(RX_RING_BYTES + TX_RING_BYTES);
    const ring = { mmio, memory, packets };
    const rx = new LegacyRxRing({
      ...ring,
      registers: RX_REGISTERS,
      offset,
      address,
      fcsBytes: FCS_BYTES,
      readHead: irqMode(cfg.irqTimeoutMs) === 'wait',
      log: context.log,
    });
    const tx = new LegacyTxRing({
      ...ring,
      registers: TX_REGISTERS,
      offset: offset + RX_RING_BYTES,
      address: address + RX_RING_BYTES,
    });
    const device = new E1000(context, { rx, tx, packets }, irqs);
    try {
      await device.start(cfg.linkTimeoutMs);
    } catch (err) {
      await device.close();
      throw err;
    }
    return device;
  },
};
