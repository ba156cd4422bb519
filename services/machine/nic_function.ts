/**
 * One NIC in its slot: model, configuration space, DMA, interrupt pin, register channel and wire.
 *
 * Here the PCI rules meet the model: memory decode gates registers, bus mastering gates DMA, INTx
 * disable gates the pin, and coming back from D3hot is a reset.
 */
import type { Memory } from '#common/memory';
import { formatRequester, requesterId } from '#common/nic/pci';
import type { MmioServer, RegisterFile } from '#common/shm/mmio';
import { E1000 } from './e1000/e1000.ts';
import { FunctionDma } from './function_dma.ts';
import type { NicHost, NicModel } from './nic_model.ts';
import type { NicOptions } from './options.ts';
import { ConfigSpace } from './pci/config_space.ts';
import { type PciFunction, routeIrq } from './pci/host.ts';
import type { IntxLines } from './pci/intx_lines.ts';
import type { Wire } from './wire.ts';

const FIRST_SLOT = 3;
/** Where QEMU's firmware puts the registers of the first NIC; the next ones lie below. */
const FIRST_BAR0 = 0xfebc_0000;
const BAR0_STEP = 0x2_0000;
const FIRST_BAR1 = 0xc000;
const BAR1_STEP = 0x40;
const ALL_ONES = 0xffff_ffff;

export interface SlotHost {
  readonly memory: Memory;
  /** SCRATCH_BYTES of private memory for this NIC. */
  readonly scratch: number;
  /** DMA_MAX bytes of 0xff. */
  readonly ones: number;
  readonly lines: IntxLines;
  now(): number;
  log(text: string): void;
  /** The machine has something to do, from outside of its turn. */
  wake(): void;
}

/** Makes the model that `--nic` names. The table grows with the models. */
function createModel(name: string, host: NicHost, mac: Uint8Array): NicModel {
  if (name !== 'e1000') throw new RangeError(`Cannot make NIC as there is no model "${name}"`);
  return new E1000(host, mac);
}

/** The BAR that holds a NIC's registers. */
export const REGISTER_BAR = 0;

export class NicFunction implements PciFunction {
  readonly requester: number;
  readonly irq: number;
  readonly config: ConfigSpace;
  readonly dma: FunctionDma;
  readonly model: NicModel;
  readonly wire: Wire;
  /** The register channel of the driver that mapped BAR0 last. */
  channel: MmioServer | undefined;
  /** When the model wants its `timer()`, in microseconds. */
  timerAt = Infinity;
  readonly #host: SlotHost;
  /** BAR0 as the bus sees it: decoded or not. */
  readonly registers: RegisterFile;
  #decode = false;
  #powered = true;
  #pin = false;

  /** Puts NIC number `index` into slot 3 + index. */
  constructor(index: number, options: Pick<NicOptions, 'model' | 'mac'>, wire: Wire, host: SlotHost) {
    const device = FIRST_SLOT + index;
    this.#host = host;
    this.wire = wire;
    this.requester = requesterId(0, device, 0);
    this.irq = routeIrq(device, 0);
    const name = `${formatRequester(this.requester)} ${options.model}`;
    const log = (text: string): void => host.log(text);
    const now = (): number => host.now();
    this.dma = new FunctionDma({ name, ones: host.ones, now, log });
    this.model = createModel(options.model, this.#nicHost(name), options.mac);
    this.config = new ConfigSpace(this.model.pci, () => this.#onCommand());
    this.config.place([FIRST_BAR0 - index * BAR0_STEP, FIRST_BAR1 + index * BAR1_STEP], this.irq);
    const { model } = this;
    this.registers = {
      read32: (offset) => (this.#decode ? model.read32(offset) : ALL_ONES),
      write32: (offset, value) => {
        if (this.#decode) model.write32(offset, value);
      },
    };
    wire.connect(model, () => host.wake());
    model.linkChanged(wire.linkUp);
  }

  /** One turn: registers, then the transmit ring, then what the wire has. */
  poll(): boolean {
    const registers = this.channel?.poll(this.registers) ?? false;
    const sent = this.model.poll();
    const received = this.wire.poll();
    return registers || sent || received;
  }

  /** Its cable is plugged in, or pulled out: then there is no link, whatever the wire says. */
  plug(plugged: boolean): void {
    this.model.linkChanged(plugged && this.wire.linkUp);
    this.#host.wake();
  }

  /** Its driver is gone: no more DMA, rings stopped, interrupt lowered; the slot waits for the next one. */
  detach(): void {
    this.dma.assign(undefined);
    this.model.reset();
    this.config.revive();
  }

  #nicHost(name: string): NicHost {
    const host = this.#host;
    return {
      memory: host.memory,
      scratch: host.scratch,
      dma: this.dma,
      setIrq: (asserted) => this.#setPin(asserted),
      now: () => host.now(),
      setTimer: (at) => {
        this.timerAt = at;
      },
      transmit: (offset, length) => this.wire.transmit(offset, length),
      log: (text) => host.log(`${name}: ${text}`),
    };
  }

  #setPin(asserted: boolean): void {
    this.#pin = asserted;
    this.config.setInterruptStatus(asserted);
    const connected = this.config.intxEnabled && this.config.powered;
    this.#host.lines.set(this.irq, this.requester, asserted && connected);
  }

  #onCommand(): void {
    const { config } = this;
    this.#decode = config.memoryEnabled;
    this.dma.enabled = config.masterEnabled;
    if (config.powered && !this.#powered) this.model.reset();
    this.#powered = config.powered;
    this.#setPin(this.#pin);
  }
}
