/**
 * Receive interrupts through the vbus's virtual ICU (F5.3 step 4, F2.8): MSI where the NIC has it,
 * legacy INTx otherwise. MSI-X for igb, igc and ixgbe belongs here, too.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Client } from '#common/ipc/service';
import { CAP_MSI, MSI_64BIT, MSI_ENABLE } from '#common/nic/pci';
import { IrqReceiver } from '#common/shm/irq';
import { Icu } from '../../../proto/gen/services.js';
import type { IxlEnv } from '../env.ts';
import type { Log } from '../log.ts';
import type { PciDevice } from './pci.ts';
import type { VbusClient } from './vbus.ts';

const HID_ICU = 'L40009';
/** Marks an interrupt number as MSI index, and IcuInfo.features as having MSIs. */
const MSI_FLAG = 0x8000_0000;
/** Message control bits 6:4: how many messages the function may send, as a power of two. */
const MSI_MULTI_MASK = 0x70;
/** How long the ICU may take to unbind; it does so anyway when this task has ended. */
const FAREWELL_MS = 1000;

/** The receive interrupt of one queue. */
export interface RecvIrq {
  readonly kind: 'legacy' | 'msi';
  /** Interrupt number at the ICU, or MSI index. */
  readonly irq: number;
  /** `onIrq` is called from the event loop; it replaces an earlier one. */
  listen(onIrq: () => void): void;
  /** Lets a level-triggered interrupt come again. */
  unmask(): void;
  /** Unbinds it from the ICU. Never rejects. */
  close(): Promise<void>;
}

export interface IrqContext {
  readonly env: IxlEnv;
  readonly vbus: VbusClient;
  readonly pci: PciDevice;
  readonly log: Log;
}

/** The vbus's interrupt controller; reports (and goes on) when `num_msis` is too small for `queues`. */
export async function openIcu(context: IrqContext, queues: number): Promise<Client<typeof Icu>> {
  const { env, vbus, log } = context;
  const { handle } = await findIcu(vbus);
  const { capability } = await vbus.vicuGetCap({ handle });
  if (!capability) throw new L4Error('EBADPROTO', `Cannot use interrupts as ${HID_ICU} gave no capability`);
  const icu = env.ipc.client(Icu, capability as Capability);
  const { features, nrMsis } = await icu.info();
  if ((features & MSI_FLAG) !== 0 && nrMsis < queues) {
    log.error(
      `The vbus must offer as many MSIs as the NIC has receive queues (${queues}): current value of its ` +
        `property num_msis is ${nrMsis}. In the .vbus file, write "Property.num_msis = ${queues}" (or more) ` +
        'inside this bus, before its wrap() lines.',
    );
  }
  return icu;
}

async function findIcu(vbus: VbusClient) {
  try {
    return await vbus.getByHid({ handle: 0, current: -1, depth: 100, hid: HID_ICU });
  } catch (cause) {
    throw new L4Error(
      'ENODEV',
      `Cannot use interrupts as the vbus has no interrupt controller (HID ${HID_ICU}): in the .vbus file, make the ` +
        'bus with Io.Vi.System_bus',
      { code: 'IXL_NO_ICU', cause },
    );
  }
}

/** MSI 0 if the function has the capability, else INTx; logs which. */
export async function attachMsiOrLegacy(context: IrqContext, icu: Client<typeof Icu>): Promise<RecvIrq> {
  const capability = await context.pci.findCapability(CAP_MSI);
  if (capability !== 0) return attachMsi(context, icu, capability);
  context.log.info('Device does not support MSIs. Trying legacy interrupts...');
  const { irq } = await context.vbus.pciIrqEnable({ handle: context.pci.handle });
  const receiver = await bindReceiver(context.env, icu, irq, false);
  context.log.info(`Attached to legacy IRQ ${irq}`);
  return receiver;
}

async function attachMsi(context: IrqContext, icu: Client<typeof Icu>, at: number): Promise<RecvIrq> {
  const { pci, env, log } = context;
  const index = (MSI_FLAG | 0) >>> 0;
  const receiver = await bindReceiver(env, icu, index, true);
  try {
    const { address, data } = await icu.msiInfo({ irq: index, source: pci.handle });
    await programMsi(pci, at, address, data);
  } catch (err) {
    await receiver.close();
    throw err;
  }
  log.info('Attached to MSI 0');
  return receiver;
}

/** Tells the function, whose MSI capability is at `at`, what to write where, and switches MSI on. */
async function programMsi(pci: PciDevice, at: number, address: number, data: number): Promise<void> {
  const control = await pci.read(at + 2, 16);
  const wide = (control & MSI_64BIT) !== 0;
  await pci.write(at + 4, 32, address >>> 0);
  if (wide) await pci.write(at + 8, 32, Math.floor(address / 2 ** 32));
  await pci.write(at + (wide ? 12 : 8), 16, data);
  // One message. (The original writes a number here that it computes from the capability's offset.)
  await pci.write(at + 2, 16, (control & ~MSI_MULTI_MASK) | MSI_ENABLE);
}

async function bindReceiver(
  env: IxlEnv,
  icu: Client<typeof Icu>,
  irq: number,
  msi: boolean,
): Promise<RecvIrq> {
  const receiver = new IrqReceiver(env.runDir, env.arena, env.doorbells);
  try {
    const { unmaskViaIcu } = await icu.bind({ irq, object: receiver.ref });
    let onIrq = (): void => {};
    receiver.listen(() => onIrq());
    if (unmaskViaIcu !== 0) await icu.unmask({ irq });
    else receiver.unmask();
    return {
      kind: msi ? 'msi' : 'legacy',
      irq: (irq & ~MSI_FLAG) >>> 0,
      listen: (next) => {
        onIrq = next;
      },
      unmask: () => receiver.unmask(),
      close: async () => {
        await icu.unbind({ irq }, { deadlineMs: FAREWELL_MS }).catch(() => {});
        receiver.close();
      },
    };
  } catch (err) {
    receiver.close();
    throw err;
  }
}
