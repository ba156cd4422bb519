import { describe, expect, it } from 'vitest';
import {
  CTRL_RST,
  CTRL_SLU,
  CTRL_VME,
  ICR_TXD_LOW,
  ICR_TXDW,
  ICR_TXQE,
  REG,
  TCTL_EN,
  TCTL_PSP,
  TX_CMD_DEXT,
  TX_CMD_EOP,
  TX_CMD_IC,
  TX_CMD_IDE,
  TX_CMD_IFCS,
  TX_CMD_RS,
  TX_CMD_TSE,
  TX_CMD_VLE,
  TX_DTYP_DATA,
  TX_POPTS_IXSM,
  TX_POPTS_TXSM,
  TX_STATUS_DD,
  TX_TUCMD_IP,
  TX_TUCMD_TCP,
} from '#common/nic/e1000';
import { frame, packet, slowSum, TinyDriver, transportPseudo } from '../testing/tiny_driver.ts';

const LAST = TX_CMD_EOP | TX_CMD_IFCS | TX_CMD_RS;
const DATA = TX_CMD_DEXT | TX_DTYP_DATA | TX_CMD_IFCS;

function started(): TinyDriver {
  const driver = new TinyDriver();
  driver.start();
  return driver;
}

describe('E1000 transmit, legacy descriptors', () => {
  it('poll() does send a frame unchanged and write DD back when RS is set', () => {
    const driver = started();
    const bytes = frame(500);
    const index = driver.queue(driver.place(bytes), 0, bytes.length | LAST, 0xabcd_0000);
    driver.run();
    expect(driver.sent).toEqual([bytes]);
    expect(driver.txStatus(index)).toBe(TX_STATUS_DD);
    expect(driver.read(REG.TDH)).toBe(1);
    expect(driver.read(REG.ICR) & (ICR_TXDW | ICR_TXQE)).toBe(ICR_TXDW | ICR_TXQE);
  });

  it('poll() does write nothing back when RS is not set', () => {
    const driver = started();
    const index = driver.queue(driver.place(frame(60)), 0, 60 | TX_CMD_EOP | TX_CMD_IFCS, 0);
    driver.run();
    expect(driver.txStatus(index)).toBe(0);
    expect(driver.read(REG.ICR) & ICR_TXDW).toBe(0);
  });

  it('poll() does join descriptors up to EOP and pad to 60 bytes when PSP is set', () => {
    const driver = started();
    const bytes = frame(42);
    const at = driver.place(bytes);
    driver.queue(at, 0, 20 | TX_CMD_IFCS, 0);
    driver.run();
    expect(driver.sent).toHaveLength(0);
    driver.queue(0, 0, 99 | TX_CMD_IFCS, 0); // a null address moves nothing
    driver.queue(at + 20, 0, 22 | LAST, 0);
    driver.run();
    expect(driver.sent).toEqual([Uint8Array.of(...bytes, ...new Uint8Array(18))]);
  });

  it('poll() does insert a checksum where CSO and CSS say when IC is set', () => {
    const driver = started();
    const bytes = packet({ payload: new Uint8Array(33).fill(9), checksums: false });
    const cso = 34 + 16;
    driver.queue(driver.place(bytes), 0, bytes.length | LAST | TX_CMD_IC | (cso << 16), 34 << 8);
    driver.run();
    const out = driver.sent[0] as Uint8Array;
    expect(slowSum(out.subarray(34))).toBe(0xffff);
  });

  it('poll() does insert the VLAN tag of the last descriptor when VLE and CTRL.VME are set', () => {
    const driver = started();
    driver.write(REG.CTRL, CTRL_SLU | CTRL_VME);
    const bytes = frame(100);
    const at = driver.place(bytes);
    driver.queue(at, 0, 50 | TX_CMD_VLE | TX_CMD_IFCS, 0x1111_0000);
    driver.queue(at + 50, 0, 50 | TX_CMD_VLE | LAST, 0x6005_0000);
    driver.run();
    expect(driver.sent[0]).toEqual(
      Uint8Array.of(...bytes.subarray(0, 12), 0x81, 0x00, 0x60, 0x05, ...bytes.subarray(12)),
    );
  });

  it('poll() does nothing when TCTL.EN or bus mastering is off', () => {
    const driver = started();
    driver.queue(driver.place(frame(60)), 0, 60 | LAST, 0);
    driver.dma.enabled = false;
    expect(driver.nic.poll()).toBe(false);
    driver.dma.enabled = true;
    driver.write(REG.TCTL, 0);
    expect(driver.nic.poll()).toBe(false);
    expect(driver.dma.faults).toBe(0);
  });

  it('poll() does delay TXDW by TIDV only when all descriptors ask for it with IDE', () => {
    const driver = started();
    driver.write(REG.TIDV, 100); // 102.4 us
    driver.write(REG.IMS, ICR_TXDW);
    driver.queue(driver.place(frame(60)), 0, 60 | LAST | TX_CMD_IDE, 0);
    driver.run();
    expect(driver.irq).toBe(false);
    driver.advance(103);
    expect(driver.irq).toBe(true);
    driver.read(REG.ICR);
    driver.queue(driver.place(frame(60)), 0, 60 | LAST, 0);
    driver.run();
    expect(driver.irq).toBe(true);
  });

  it('poll() does raise TXD_LOW when the ring drains below LWTHRESH', () => {
    const driver = started();
    driver.write(REG.TXDCTL, 1 << 25); // 8 descriptors
    for (let n = 0; n < 10; n++) driver.queue(driver.place(frame(60)), 0, 60 | LAST, 0);
    driver.run();
    expect(driver.read(REG.ICR) & ICR_TXD_LOW).toBe(ICR_TXD_LOW);
  });

  it('poll() does drop a frame of more than 16288 bytes and say so', () => {
    const driver = started();
    driver.queue(driver.place(new Uint8Array(16289)), 0, 16289 | LAST, 0);
    driver.queue(driver.place(frame(60)), 0, 60 | LAST, 0);
    driver.run();
    expect(driver.sent).toHaveLength(1);
    expect(driver.logs.join()).toContain('16288');
  });

  it('poll() does not mix the beginning of a frame of the old ring into the new one when TDH is written', () => {
    const driver = started();
    driver.queue(driver.place(frame(500)), 0, 300 | TX_CMD_IFCS, 0); // no EOP: the frame goes on
    driver.run();
    driver.write(REG.TCTL, 0);
    driver.write(REG.TDH, driver.read(REG.TDT));
    driver.write(REG.TCTL, TCTL_EN | TCTL_PSP);
    driver.queue(driver.place(frame(60)), 0, 60 | LAST, 0);
    driver.run();
    expect(driver.sent).toEqual([frame(60)]);
  });

  it('poll() does log at most a line a second, however much nonsense a driver sends and however often it resets', () => {
    const driver = started();
    for (let n = 0; n < 1000; n++) {
      driver.queue(driver.place(new Uint8Array(16289)), 0, 16289 | LAST, 0);
      driver.run();
    }
    expect(driver.logs).toHaveLength(1);
    driver.advance(1_000_001);
    driver.queue(driver.place(new Uint8Array(16289)), 0, 16289 | LAST, 0);
    driver.run();
    expect(driver.logs).toEqual([expect.anything(), expect.stringContaining('(and 999 more since)')]);
    for (let n = 0; n < 100; n++) {
      driver.write(REG.CTRL, CTRL_RST);
      driver.restart();
      driver.queue(driver.place(frame(60)), 0, 60 | TX_CMD_EOP | TX_CMD_RS, 0); // no IFCS
      driver.run();
    }
    expect(driver.logs.filter((line) => line.includes('IFCS'))).toHaveLength(1);
  });

  it('poll() does count what it sent by kind and size', () => {
    const driver = started();
    driver.queue(driver.place(frame(60, [255, 255, 255, 255, 255, 255])), 0, 60 | LAST, 0);
    driver.queue(driver.place(frame(1514), 4096), 0, 1514 | LAST, 0);
    driver.run();
    expect([REG.TPT, REG.GPTC, REG.BPTC, REG.PTC64, REG.PTC1522].map((r) => driver.read(r))).toEqual([
      2, 2, 1, 1, 1,
    ]);
    expect(driver.read(REG.GOTCL)).toBe(64 + 1518);
    expect(driver.nic.counters.txBytes).toBe(60 + 1514);
  });
});

interface Layout {
  readonly l3: number;
  readonly l4: number;
  readonly header: number;
}

/** Queues a context descriptor for such a packet. */
function context(
  driver: TinyDriver,
  { l3, l4, header }: Layout,
  kind: number,
  udp: boolean,
  mss = 0,
  payload = 0,
): void {
  const ip = l3 | ((l3 + 10) << 8) | ((l4 - 1) << 16);
  const transport = l4 | ((l4 + (udp ? 6 : 16)) << 8);
  const lower = payload | TX_CMD_DEXT | kind | (udp ? 0 : TX_TUCMD_TCP);
  driver.queue(ip, transport, lower, (header << 8) | (mss << 16));
}

/** A packet as a driver hands it over: no IP checksum, the pseudo header's sum as transport checksum. */
function unfinished(
  options: { payload: Uint8Array; udp?: boolean; v6?: boolean },
  length: number,
): Uint8Array {
  const { udp = false, v6 = false } = options;
  const bytes = packet({ ...options, checksums: false });
  const l4 = v6 ? 54 : 34;
  const pseudo = slowSum(Uint8Array.from(transportPseudo(bytes, 14, v6, udp ? 17 : 6, length)));
  new DataView(bytes.buffer).setUint16(l4 + (udp ? 6 : 16), pseudo);
  return bytes;
}

describe('E1000 transmit, checksum offload', () => {
  it.each([
    { udp: false, v6: false },
    { udp: true, v6: false },
    { udp: false, v6: true },
    { udp: true, v6: true },
  ])('poll() does finish the checksums of a packet when POPTS says so: %o', ({ udp, v6 }) => {
    const driver = started();
    const payload = Uint8Array.from({ length: 77 }, (_, n) => 255 - n);
    const bytes = unfinished({ payload, udp, v6 }, payload.length + (udp ? 8 : 20));
    const l4 = v6 ? 54 : 34;
    context(driver, { l3: 14, l4, header: 0 }, v6 ? 0 : TX_TUCMD_IP, udp);
    const popts = TX_POPTS_TXSM | (v6 ? 0 : TX_POPTS_IXSM);
    driver.queue(driver.place(bytes), 0, DATA | LAST | bytes.length, popts);
    driver.run();
    expect(driver.sent[0]).toEqual(packet({ payload, udp, v6 }));
  });
});

describe('E1000 transmit, TCP segmentation', () => {
  const send = (
    size: number,
    mss: number,
    v6: boolean,
    vlan: boolean,
  ): { driver: TinyDriver; payload: Uint8Array } => {
    const driver = started();
    if (vlan) driver.write(REG.CTRL, CTRL_SLU | CTRL_VME);
    const payload = Uint8Array.from({ length: size }, (_, n) => (n * 13) & 0xff);
    const bytes = unfinished({ payload, v6 }, 0);
    const l4 = v6 ? 54 : 34;
    const header = l4 + 20;
    context(driver, { l3: 14, l4, header }, TX_CMD_TSE | (v6 ? 0 : TX_TUCMD_IP), false, mss, size);
    const popts = TX_POPTS_TXSM | (v6 ? 0 : TX_POPTS_IXSM) | (vlan ? 0x0007_0000 : 0);
    const flags = DATA | TX_CMD_TSE | (vlan ? TX_CMD_VLE : 0);
    const at = driver.place(bytes);
    driver.queue(at, 0, flags | header, popts);
    driver.queue(at + header, 0, flags | (size >>> 1), 0x0007_0000);
    driver.queue(at + header + (size >>> 1), 0, flags | LAST | (size - (size >>> 1)), 0x0007_0000);
    driver.run();
    return { driver, payload };
  };

  it.each([
    { size: 5000, mss: 1460, v6: false, vlan: false },
    { size: 2920, mss: 1460, v6: false, vlan: false },
    { size: 64000, mss: 1440, v6: true, vlan: false },
    { size: 3001, mss: 1000, v6: false, vlan: true },
    { size: 10, mss: 1460, v6: false, vlan: false },
    { size: 3000, mss: 1, v6: false, vlan: false },
  ])('poll() does send a train of right segments when asked for %o', ({ size, mss, v6, vlan }) => {
    const { driver, payload } = send(size, mss, v6, vlan);
    const count = Math.ceil(size / mss);
    expect(driver.sent).toHaveLength(count);
    expect(driver.read(REG.TSCTC)).toBe(1);
    const parts = driver.sent.map((segment, n) => {
      const plain = vlan ? Uint8Array.of(...segment.subarray(0, 12), ...segment.subarray(16)) : segment;
      if (vlan) expect([...segment.subarray(12, 16)]).toEqual([0x81, 0, 0, 7]);
      return checkSegment(plain, n, n === count - 1, Math.min(mss, size - n * mss), n * mss, v6);
    });
    expect(Buffer.concat(parts).equals(payload)).toBe(true);
    expect(driver.txStatus(3)).toBe(TX_STATUS_DD);
    expect(driver.read(REG.TDH)).toBe(4);
  });

  it('poll() does drop and count TSCTFC when the context is nonsense, and sends what follows', () => {
    const driver = started();
    context(driver, { l3: 14, l4: 34, header: 10 }, TX_CMD_TSE | TX_TUCMD_IP, false, 0, 100);
    driver.queue(driver.place(frame(500)), 0, DATA | TX_CMD_TSE | LAST | 500, 0);
    driver.queue(driver.place(frame(60)), 0, 60 | LAST, 0);
    driver.run();
    expect(driver.read(REG.TSCTFC)).toBe(1);
    expect(driver.sent).toEqual([frame(60)]);
  });
});

/** Checks lengths, id, sequence, flags and checksums of segment `n`; returns its payload. */
function checkSegment(
  bytes: Uint8Array,
  n: number,
  last: boolean,
  length: number,
  done: number,
  v6: boolean,
): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const l4 = v6 ? 54 : 34;
  if (v6) expect(view.getUint16(18)).toBe(20 + length);
  else {
    expect(view.getUint16(16)).toBe(40 + length);
    expect(view.getUint16(18)).toBe((0xfffe + n) & 0xffff);
    expect(slowSum(bytes.subarray(14, 34))).toBe(0xffff);
  }
  expect(view.getUint32(l4 + 4)).toBe((0xffff_fff0 + done) >>> 0);
  expect(bytes[l4 + 13]).toBe(last ? 0x19 : 0x10);
  const segment = bytes.subarray(l4, l4 + 20 + length);
  expect(slowSum(Uint8Array.of(...transportPseudo(bytes, 14, v6, 6, 20 + length), ...segment))).toBe(0xffff);
  return segment.subarray(20);
}
