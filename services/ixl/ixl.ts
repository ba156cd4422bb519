/**
 * The NIC driver library, as on L4Re: a program that has a `vbus` capability links it and drives a NIC
 * by itself. `ixlInit` finds the NIC, picks its driver and starts it (F5.1, F5.3).
 */
import type { Capability } from '#common/ipc/capability';
import type { Ipc } from '#common/ipc/ipc';
import { PCI } from '#common/nic/pci';
import { Vbus } from '../../proto/gen/services.js';
import { DmaMemories } from './bringup/dma.ts';
import { attachMsiOrLegacy, type IrqContext, openIcu } from './bringup/interrupts.ts';
import type { PciDevice } from './bringup/pci.ts';
import { mapRegisters } from './bringup/registers.ts';
import { findNic, numberOfNics, type VbusClient } from './bringup/vbus.ts';
import { systemClock } from './clock.ts';
import { completeCfg, type DevCfg, irqMode } from './config.ts';
import type { IxlDevice } from './device.ts';
import type { Driver } from './drivers/driver.ts';
import { driverFor } from './drivers/pci_ids.ts';
import type { IxlEnv } from './env.ts';
import { consoleLog, type Log } from './log.ts';

export type { RecvIrq } from './bringup/interrupts.ts';
export { type DevCfg, MAX_QUEUES, NOTIFY, POLL } from './config.ts';
export { type DeviceStats, IxlDevice, OPT } from './device.ts';

export type { IxlEnv } from './env.ts';
export { consoleLog, type Log } from './log.ts';
export { BUFFER, lengthOf, MAX_FRAME, MIN_FRAME, setLength } from './memory/buffer.ts';
export type { Mempool } from './memory/mempool.ts';
export type { Buffers } from './rings/queue.ts';

/**
 * Starts the `devIdx`-th Ethernet controller of a virtual bus. Resolves when it runs and its link is up,
 * or after `cfg.linkTimeoutMs` without a link.
 *
 * Throws L4Error with one of these codes, nothing is left behind then: IXL_NO_NIC (no Ethernet
 * controller on the bus), IXL_NO_SUCH_INDEX, IXL_UNSUPPORTED, IXL_NO_DMA_DOMAIN, IXL_NO_ICU, IXL_EEPROM,
 * IXL_DEVICE_GONE; or what the bus itself refuses.
 */
export async function ixlInit(
  vbus: Capability,
  devIdx: number,
  cfg: Partial<DevCfg>,
  env: IxlEnv,
  log: Log = consoleLog,
): Promise<IxlDevice> {
  const full = completeCfg(cfg);
  const client = env.ipc.client(Vbus, vbus);
  const pci = await findNic(client, devIdx);
  const driver = driverFor(await pci.read(PCI.VENDOR_ID, 16), await pci.read(PCI.DEVICE_ID, 16));
  log.info(`Trying ${driver.name}...`);
  return bringUp({ env, vbus: client, pci, log }, vbus, driver, full);
}

/** How many Ethernet controllers a virtual bus has: what `devIdx` may be is below. Throws what the bus refuses. */
export async function countNics(
  vbus: Capability,
  env: { readonly ipc: Pick<Ipc, 'client'> },
): Promise<number> {
  return numberOfNics(env.ipc.client(Vbus, vbus));
}

async function bringUp(
  context: IrqContext & { readonly vbus: VbusClient; readonly pci: PciDevice },
  vbus: Capability,
  driver: Driver,
  cfg: DevCfg,
): Promise<IxlDevice> {
  const { env, pci, log } = context;
  const held: { close(): void | Promise<void> }[] = [];
  let released = false;
  const release = async (): Promise<void> => {
    if (released) return;
    released = true;
    for (const resource of held.reverse()) await resource.close();
  };
  try {
    const registers = await mapRegisters(context, vbus, cfg.patienceMs);
    held.push(registers);
    const dma = await DmaMemories.create(env, context.vbus, pci);
    held.push(dma);
    const icu = irqMode(cfg.irqTimeoutMs) === 'disable' ? undefined : await openIcu(context, cfg.numRxQueues);
    const device = await driver.create({
      cfg,
      memory: env.arena,
      mmio: registers.mmio,
      dma,
      irqs: icu && {
        msiOrLegacy: async () => {
          const irq = await attachMsiOrLegacy(context, icu);
          held.push(irq);
          return irq;
        },
      },
      log,
      clock: systemClock,
      release,
      machineGone: dma.whenMachineGone(),
    });
    registers.watch(() => device.markGone());
    return device;
  } catch (err) {
    await release();
    throw err;
  }
}
