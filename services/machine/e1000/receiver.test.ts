import { describe, expect, it } from 'vitest';
import {
  CTRL_SLU,
  CTRL_VME,
  ICR_RXDMT0,
  ICR_RXO,
  RCTL_BAM,
  RCTL_BSEX,
  RCTL_CFI,
  RCTL_CFIEN,
  RCTL_LBM_MAC,
  RCTL_LPE,
  RCTL_MPE,
  RCTL_PMCF,
  RCTL_SECRC,
  RCTL_UPE,
  RCTL_VFE,
  REG,
  RX_ERROR_IPE,
  RX_ERROR_TCPE,
  RX_STATUS_DD,
  RX_STATUS_EOP,
  RX_STATUS_IPCS,
  RX_STATUS_IXSM,
  RX_STATUS_PIF,
  RX_STATUS_TCPCS,
  RX_STATUS_VP,
  RXCSUM_IPOFL,
  RXCSUM_TUOFL,
  TX_CMD_EOP,
  TX_CMD_IFCS,
} from '#common/nic/e1000';
import fc from '#common/testing/fast_check';
import { frame, packet, slowSum, TinyDriver } from '../testing/tiny_driver.ts';

const DONE = RX_STATUS_DD | RX_STATUS_EOP;
const BROADCAST = [255, 255, 255, 255, 255, 255];

describe('E1000 receive', () => {
  it('receive() does write frame, FCS and DD when the destination matches', () => {
    const driver = new TinyDriver();
    driver.start(0);
    const sent = frame(123);
    expect(driver.offer(sent)).toBe(true);
    const { status, length, data } = driver.rx(0);
    expect(status & DONE).toBe(DONE);
    expect(length).toBe(127);
    expect(data.slice(0, 123)).toEqual(sent);
    expect([...data.slice(123)]).toEqual([0, 0, 0, 0]);
    expect(driver.read(REG.RDH)).toBe(1);
  });

  it('receive() does leave the FCS out when RCTL.SECRC is set, and pads short frames to 60 bytes', () => {
    const driver = new TinyDriver();
    driver.start(RCTL_SECRC);
    driver.offer(frame(42));
    expect(driver.rx(0).length).toBe(60);
    expect(
      driver
        .rx(0)
        .data.slice(42)
        .every((byte) => byte === 0),
    ).toBe(true);
  });

  it('receive() does spread a frame over descriptors with one EOP when buffers are small', () => {
    const driver = new TinyDriver();
    driver.start(RCTL_SECRC | (3 << 16)); // 256 bytes
    const sent = frame(700);
    driver.offer(sent);
    const parts = [0, 1, 2].map((n) => driver.rx(n));
    expect(parts.map(({ length }) => length)).toEqual([256, 256, 188]);
    expect(parts.map(({ status }) => status & DONE)).toEqual([RX_STATUS_DD, RX_STATUS_DD, DONE]);
    expect(Buffer.concat(parts.map(({ data }) => data))).toEqual(Buffer.from(sent));
  });

  it('receive() does take a long frame only when RCTL.LPE is set', () => {
    const driver = new TinyDriver();
    driver.start(RCTL_BSEX | (3 << 16));
    expect(driver.offer(frame(1519))).toBe(true);
    expect([REG.ROC, REG.RLEC].map((register) => driver.read(register))).toEqual([1, 1]);
    expect(driver.rx(0).status).toBe(0);
    driver.write(REG.RCTL, driver.read(REG.RCTL) | RCTL_LPE);
    driver.offer(frame(1519));
    expect(driver.rx(0).length).toBe(1523);
  });

  it('receive() does refuse and count once when no descriptor is free, and goes on after RDT moved', () => {
    const driver = new TinyDriver();
    driver.start(0);
    for (let n = 0; n < 15; n++) expect(driver.offer(frame(60))).toBe(true);
    for (let n = 0; n < 3; n++) expect(driver.offer(frame(60))).toBe(false);
    expect(driver.read(REG.RNBC)).toBe(1);
    expect(driver.nic.counters.rxMissed).toBe(1);
    expect(driver.read(REG.ICR) & ICR_RXO).toBe(0);
    driver.refill(15);
    driver.write(REG.RDT, 0);
    expect(driver.offer(frame(60))).toBe(true);
    expect(driver.read(REG.GPRC)).toBe(16);
  });

  it('receive() does raise RXDMT0 once when free descriptors fall to the threshold', () => {
    const driver = new TinyDriver();
    driver.start(1 << 8); // a quarter: 4 of 16
    for (let n = 0; n < 10; n++) driver.offer(frame(60));
    expect(driver.read(REG.ICR) & ICR_RXDMT0).toBe(0);
    driver.offer(frame(60));
    expect(driver.read(REG.ICR) & ICR_RXDMT0).toBe(ICR_RXDMT0);
    driver.offer(frame(60));
    expect(driver.read(REG.ICR) & ICR_RXDMT0).toBe(0);
  });

  it('receive() does drop and raise RXO when a frame can never fit the ring', () => {
    const driver = new TinyDriver(8);
    driver.start(RCTL_LPE | (3 << 16));
    expect(driver.offer(frame(4000))).toBe(true);
    expect(driver.read(REG.MPC)).toBe(1);
    expect(driver.read(REG.ICR) & ICR_RXO).toBe(ICR_RXO);
  });

  it('receive() does drop silently when the receiver is off', () => {
    const driver = new TinyDriver();
    expect(driver.offer(frame(60))).toBe(true);
    expect(driver.read(REG.TPR)).toBe(0);
  });

  it('receive() does read a frame back when RCTL.LBM is loopback', () => {
    const driver = new TinyDriver();
    driver.start(RCTL_LBM_MAC);
    const sent = frame(100);
    driver.queue(driver.place(sent), 0, sent.length | TX_CMD_EOP | TX_CMD_IFCS, 0);
    driver.run();
    expect(driver.sent).toHaveLength(0);
    expect(driver.rx(0).data.slice(0, 100)).toEqual(sent);
  });
});

describe('E1000 filters', () => {
  const accepted = (rctl: number, destination: number[], prepare?: (driver: TinyDriver) => void): number => {
    const driver = new TinyDriver();
    driver.start(rctl);
    prepare?.(driver);
    driver.offer(frame(60, destination));
    return driver.rx(0).status;
  };
  const OTHER = [0x52, 0x54, 0, 0, 0, 1];
  const GROUP = [0x01, 0x00, 0x5e, 0x12, 0x34, 0x56];

  it('receive() does take broadcast, foreign unicast and multicast only when BAM, UPE and MPE say so', () => {
    expect(accepted(0, BROADCAST)).toBe(0);
    expect(accepted(RCTL_BAM, BROADCAST) & DONE).toBe(DONE);
    expect(accepted(RCTL_BAM, OTHER)).toBe(0);
    expect(accepted(RCTL_UPE, OTHER) & DONE).toBe(DONE);
    expect(accepted(RCTL_UPE, GROUP)).toBe(0);
    expect(accepted(RCTL_MPE, GROUP) & DONE).toBe(DONE);
  });

  it('receive() does take one of 16 exact addresses when its RAH has AV', () => {
    const set = (av: number) => (driver: TinyDriver) => {
      driver.nic.write32(REG.RAL0.offset + 8 * 15, 0x00005452);
      driver.nic.write32(REG.RAH0.offset + 8 * 15, (0x0100 | av) >>> 0);
    };
    expect(accepted(0, OTHER, set(0x8000_0000)) & DONE).toBe(DONE);
    expect(accepted(0, OTHER, set(0))).toBe(0);
  });

  it('receive() does set PIF when only the multicast table matched, for each RCTL.MO', () => {
    // Bits [47:36], [46:35], [45:34], [43:32] of 0x5634.
    const hashes = [0x563, 0xac6 & 0xfff, 0x58d, 0x634];
    hashes.forEach((hash, mo) => {
      const status = accepted(mo << 12, GROUP, (driver) =>
        driver.nic.write32(REG.MTA.offset + 4 * (hash >>> 5), (1 << (hash & 31)) >>> 0),
      );
      expect(status & (DONE | RX_STATUS_PIF)).toBe(DONE | RX_STATUS_PIF);
    });
    expect(accepted(0, GROUP)).toBe(0);
  });

  it('receive() does filter by VFTA when VFE is set and strip the tag when CTRL.VME is', () => {
    const driver = new TinyDriver();
    driver.start(RCTL_VFE | RCTL_SECRC);
    const tagged = packet({ payload: new Uint8Array(100), vlan: 0x6123 });
    driver.offer(tagged);
    expect(driver.rx(0).status).toBe(0);
    driver.nic.write32(REG.VFTA.offset + 4 * (0x123 >>> 5), 1 << (0x123 & 31));
    driver.offer(tagged);
    expect(driver.rx(0).status & RX_STATUS_VP).toBe(0);
    expect(driver.rx(0).data).toEqual(tagged);
    driver.write(REG.CTRL, CTRL_SLU | CTRL_VME);
    driver.offer(tagged);
    const { status, special, data } = driver.rx(1);
    expect(status & RX_STATUS_VP).toBe(RX_STATUS_VP);
    expect(special).toBe(0x6123);
    expect(data).toEqual(packet({ payload: new Uint8Array(100) }));
  });
});

describe('E1000 receive, VLAN and control frames', () => {
  it.each([
    { rctl: RCTL_CFIEN, cfi: false, taken: true },
    { rctl: RCTL_CFIEN, cfi: true, taken: false },
    { rctl: RCTL_CFIEN | RCTL_CFI, cfi: false, taken: false },
    { rctl: RCTL_CFIEN | RCTL_CFI, cfi: true, taken: true },
    { rctl: RCTL_CFI, cfi: false, taken: true },
  ])('receive() does compare the CFI bit of a tag when CFIEN is set: %o', ({ rctl, cfi, taken }) => {
    const driver = new TinyDriver();
    driver.start(RCTL_VFE | rctl);
    driver.nic.write32(REG.VFTA.offset, 1 << 5);
    driver.offer(packet({ payload: new Uint8Array(100), vlan: 5 | (cfi ? 0x1000 : 0) }));
    expect(driver.rx(0).status !== 0).toBe(taken);
  });

  it('receive() does count MAC control frames by what they say, and pass them with PMCF only', () => {
    const driver = new TinyDriver();
    driver.start(RCTL_MPE);
    const control = (opcode: number, time: number) => {
      const bytes = frame(60, [0x01, 0x80, 0xc2, 0, 0, 1]);
      bytes.set([0x88, 0x08, 0, opcode, time >>> 8, time & 0xff], 12);
      return bytes;
    };
    for (const bytes of [control(1, 0), control(1, 0xffff), control(1, 1), control(2, 1)])
      driver.offer(bytes);
    const counters = [REG.XONRXC, REG.XOFFRXC, REG.FCRUC, REG.GPRC, REG.TPR];
    expect(counters.map((register) => driver.read(register))).toEqual([1, 2, 1, 0, 4]);
    driver.write(REG.RCTL, driver.read(REG.RCTL) | RCTL_PMCF);
    driver.offer(control(1, 0));
    expect(driver.read(REG.GPRC)).toBe(1);
  });
});

describe('E1000 receive checksum', () => {
  const OFFLOAD = RXCSUM_IPOFL | RXCSUM_TUOFL;
  const status = (bytes: Uint8Array, rxcsum = OFFLOAD): { status: number; errors: number } => {
    const driver = new TinyDriver();
    driver.start(RCTL_SECRC);
    driver.write(REG.RXCSUM, rxcsum);
    driver.offer(bytes);
    const { status: bits, errors } = driver.rx(0);
    return { status: bits & (RX_STATUS_IXSM | RX_STATUS_IPCS | RX_STATUS_TCPCS), errors };
  };
  const payload = Uint8Array.from({ length: 101 }, (_, n) => n);

  it.each([
    { name: 'TCP over IPv4', options: {}, expected: RX_STATUS_IPCS | RX_STATUS_TCPCS },
    { name: 'UDP over IPv4', options: { udp: true }, expected: RX_STATUS_IPCS | RX_STATUS_TCPCS },
    { name: 'TCP over IPv6', options: { v6: true }, expected: RX_STATUS_TCPCS },
    { name: 'UDP over IPv6 with VLAN', options: { v6: true, udp: true, vlan: 5 }, expected: RX_STATUS_TCPCS },
  ])('examine() does check $name without error when it is right', ({ options, expected }) => {
    expect(status(packet({ payload, ...options }))).toEqual({ status: expected, errors: 0 });
  });

  it('examine() does say of a sound frame what it says when it adds it up, whatever the frame', () => {
    const options = fc.record(
      {
        payload: fc.uint8Array({ maxLength: 200 }),
        udp: fc.boolean(),
        v6: fc.boolean(),
        vlan: fc.integer({ min: 0, max: 0xffff }),
      },
      { requiredKeys: ['payload', 'udp', 'v6'] },
    );
    fc.assert(
      fc.property(options, fc.integer({ min: 0, max: 255 }), fc.boolean(), (what, first, strip) => {
        const [added, known] = [false, true].map((sound) => {
          const driver = new TinyDriver();
          driver.start(RCTL_SECRC);
          driver.write(REG.CTRL, CTRL_SLU | (strip ? CTRL_VME : 0));
          driver.write(REG.RXCSUM, OFFLOAD | first);
          driver.offer(packet(what), 0x300000, sound);
          return driver.rx(0);
        });
        expect(known).toEqual(added);
      }),
      { numRuns: 100 },
    );
  });

  it('examine() does set the error bits when a checksum is wrong', () => {
    const badTcp = packet({ payload });
    badTcp[badTcp.length - 1] = 0xee;
    expect(status(badTcp).errors).toBe(RX_ERROR_TCPE);
    const badIp = packet({ payload });
    badIp[22] = 63; // TTL
    expect(status(badIp).errors).toBe(RX_ERROR_IPE);
  });

  it('examine() does set IXSM when the offload is off, the packet unknown or its lengths lie', () => {
    expect(status(packet({ payload }), 0).status).toBe(RX_STATUS_IXSM);
    expect(status(frame(100)).status).toBe(RX_STATUS_IXSM);
    const fragment = packet({ payload });
    fragment[20] = 0x20;
    expect(status(fragment).status).toBe(RX_STATUS_IPCS);
    const lying = packet({ payload });
    lying[16] = 0xff;
    expect(status(lying).status).toBe(RX_STATUS_IPCS);
  });

  it.each([0, 11, 12, 14, 17, 34, 60, 255])(
    'examine() does sum the packet from byte %i when RXCSUM.PCSS says so',
    (pcss) => {
      for (const vlan of [undefined, 7]) {
        for (const rxcsum of [0, OFFLOAD]) {
          const driver = new TinyDriver();
          driver.start();
          driver.write(REG.CTRL, CTRL_SLU | CTRL_VME);
          driver.write(REG.RXCSUM, rxcsum | pcss);
          driver.offer(packet({ payload, ...(vlan === undefined ? {} : { vlan }) }));
          const seen = driver.rx(0).data;
          expect(driver.rx(0).checksum).toBe(~slowSum(seen.subarray(pcss)) & 0xffff);
        }
      }
    },
  );
});

describe('E1000 statistics', () => {
  it('read32() does count by kind and size and clear when read', () => {
    const driver = new TinyDriver();
    driver.start(RCTL_BAM | RCTL_MPE);
    driver.offer(frame(60));
    driver.offer(frame(1514, BROADCAST));
    driver.offer(frame(300, [1, 0, 0x5e, 0, 0, 1]));
    driver.offer(frame(60, [2, 0, 0, 0, 0, 9]));
    const expected = {
      TPR: 4,
      GPRC: 3,
      BPRC: 1,
      MPRC: 1,
      PRC64: 1,
      PRC511: 1,
      PRC1522: 1,
      PRC127: 0,
    } as const;
    for (const [name, value] of Object.entries(expected)) {
      expect([name, driver.read(REG[name as keyof typeof expected])]).toEqual([name, value]);
      expect(driver.read(REG[name as keyof typeof expected])).toBe(0);
    }
    expect(driver.read(REG.GORCL)).toBe(64 + 1518 + 304);
    expect(driver.read(REG.GORCL)).toBe(64 + 1518 + 304);
    expect(driver.read(REG.GORCH)).toBe(0);
    expect(driver.read(REG.GORCL)).toBe(0);
    expect(driver.read(REG.TORL)).toBe(64 + 1518 + 304 + 64);
  });
});
