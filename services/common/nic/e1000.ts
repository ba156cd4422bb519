/**
 * Register map and descriptor layouts of the e1000 (82540EM) as driver, device model and trace
 * printer see them.
 *
 * Offsets and bits: Intel PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's
 * Manual, 317453 (here "8254x"), chapter 3 (descriptors), 5.6 (EEPROM) and 13 (registers).
 * Registers are 32 bits wide. Kinds: RW; RO; RC = clears on read; WO. Names are the manual's.
 */

export type RegisterKind = 'RW' | 'RO' | 'RC' | 'WO';

export interface Register {
  /** Byte offset in BAR0. */
  readonly offset: number;
  readonly kind: RegisterKind;
  /** Value after a reset. */
  readonly reset: number;
}

const reg = (offset: number, kind: RegisterKind, reset = 0): Register => ({ offset, kind, reset });

/** BAR0: memory, 128 KiB. BAR1: I/O ports, 64 bytes. */
export const BAR0_SIZE = 0x20000;
export const BAR1_SIZE = 0x40;

export const REG = {
  // General
  CTRL: reg(0x0000, 'RW', 0x0000_0241),
  STATUS: reg(0x0008, 'RO', 0x0000_0081),
  EECD: reg(0x0010, 'RW', 0x0000_0110),
  EERD: reg(0x0014, 'RW'),
  CTRL_EXT: reg(0x0018, 'RW'),
  FLA: reg(0x001c, 'RW'),
  MDIC: reg(0x0020, 'RW', 0x1000_0000),
  FCAL: reg(0x0028, 'RW'),
  FCAH: reg(0x002c, 'RW'),
  FCT: reg(0x0030, 'RW'),
  VET: reg(0x0038, 'RW', 0x8100),
  FCTTV: reg(0x0170, 'RW'),
  TXCW: reg(0x0178, 'RW'),
  RXCW: reg(0x0180, 'RO'),
  LEDCTL: reg(0x0e00, 'RW', 0x0706_8302),
  PBA: reg(0x1000, 'RW', 0x0010_0030),
  // Interrupts
  ICR: reg(0x00c0, 'RC'),
  ITR: reg(0x00c4, 'RW'),
  ICS: reg(0x00c8, 'WO'),
  IMS: reg(0x00d0, 'RW'),
  IMC: reg(0x00d8, 'WO'),
  // Receive. Hardware owns RDH, software owns RDT; RDH == RDT means no free descriptor.
  RCTL: reg(0x0100, 'RW'),
  FCRTL: reg(0x2160, 'RW'),
  FCRTH: reg(0x2168, 'RW'),
  RDBAL: reg(0x2800, 'RW'),
  RDBAH: reg(0x2804, 'RW'),
  RDLEN: reg(0x2808, 'RW'),
  RDH: reg(0x2810, 'RW'),
  RDT: reg(0x2818, 'RW'),
  RDTR: reg(0x2820, 'RW'),
  RXDCTL: reg(0x2828, 'RW', 0x0101_0000),
  RADV: reg(0x282c, 'RW'),
  RSRPD: reg(0x2c00, 'RW'),
  RXCSUM: reg(0x5000, 'RW'),
  // Transmit. Hardware owns TDH, software owns TDT; TDH == TDT means nothing to send.
  TCTL: reg(0x0400, 'RW'),
  TIPG: reg(0x0410, 'RW'),
  AIT: reg(0x0458, 'RW'),
  TDBAL: reg(0x3800, 'RW'),
  TDBAH: reg(0x3804, 'RW'),
  TDLEN: reg(0x3808, 'RW'),
  TDH: reg(0x3810, 'RW'),
  TDT: reg(0x3818, 'RW'),
  TIDV: reg(0x3820, 'RW'),
  TXDCTL: reg(0x3828, 'RW'),
  TADV: reg(0x382c, 'RW'),
  TSPMT: reg(0x3830, 'RW', 0x0100_0400),
  // Wake-up and manageability: plain storage in the model
  WUC: reg(0x5800, 'RW'),
  WUFC: reg(0x5808, 'RW'),
  WUS: reg(0x5810, 'RW'),
  MANC: reg(0x5820, 'RW'),
  // Statistics: 32 bits, clear on read; the L/H pairs are one 64-bit counter read low, then high
  CRCERRS: reg(0x4000, 'RC'),
  ALGNERRC: reg(0x4004, 'RC'),
  SYMERRS: reg(0x4008, 'RC'),
  RXERRC: reg(0x400c, 'RC'),
  MPC: reg(0x4010, 'RC'),
  SCC: reg(0x4014, 'RC'),
  ECOL: reg(0x4018, 'RC'),
  MCC: reg(0x401c, 'RC'),
  LATECOL: reg(0x4020, 'RC'),
  COLC: reg(0x4028, 'RC'),
  DC: reg(0x4030, 'RC'),
  TNCRS: reg(0x4034, 'RC'),
  SEC: reg(0x4038, 'RC'),
  CEXTERR: reg(0x403c, 'RC'),
  RLEC: reg(0x4040, 'RC'),
  XONRXC: reg(0x4048, 'RC'),
  XONTXC: reg(0x404c, 'RC'),
  XOFFRXC: reg(0x4050, 'RC'),
  XOFFTXC: reg(0x4054, 'RC'),
  FCRUC: reg(0x4058, 'RC'),
  PRC64: reg(0x405c, 'RC'),
  PRC127: reg(0x4060, 'RC'),
  PRC255: reg(0x4064, 'RC'),
  PRC511: reg(0x4068, 'RC'),
  PRC1023: reg(0x406c, 'RC'),
  PRC1522: reg(0x4070, 'RC'),
  GPRC: reg(0x4074, 'RC'),
  BPRC: reg(0x4078, 'RC'),
  MPRC: reg(0x407c, 'RC'),
  GPTC: reg(0x4080, 'RC'),
  GORCL: reg(0x4088, 'RC'),
  GORCH: reg(0x408c, 'RC'),
  GOTCL: reg(0x4090, 'RC'),
  GOTCH: reg(0x4094, 'RC'),
  RNBC: reg(0x40a0, 'RC'),
  RUC: reg(0x40a4, 'RC'),
  RFC: reg(0x40a8, 'RC'),
  ROC: reg(0x40ac, 'RC'),
  RJC: reg(0x40b0, 'RC'),
  MGTPRC: reg(0x40b4, 'RC'),
  MGTPDC: reg(0x40b8, 'RC'),
  MGTPTC: reg(0x40bc, 'RC'),
  TORL: reg(0x40c0, 'RC'),
  TORH: reg(0x40c4, 'RC'),
  TOTL: reg(0x40c8, 'RC'),
  TOTH: reg(0x40cc, 'RC'),
  TPR: reg(0x40d0, 'RC'),
  TPT: reg(0x40d4, 'RC'),
  PTC64: reg(0x40d8, 'RC'),
  PTC127: reg(0x40dc, 'RC'),
  PTC255: reg(0x40e0, 'RC'),
  PTC511: reg(0x40e4, 'RC'),
  PTC1023: reg(0x40e8, 'RC'),
  PTC1522: reg(0x40ec, 'RC'),
  MPTC: reg(0x40f0, 'RC'),
  BPTC: reg(0x40f4, 'RC'),
  TSCTC: reg(0x40f8, 'RC'),
  TSCTFC: reg(0x40fc, 'RC'),
  // Tables, first entry each; see the *_ENTRIES constants
  MTA: reg(0x5200, 'RW'),
  RAL0: reg(0x5400, 'RW'),
  RAH0: reg(0x5404, 'RW'),
  VFTA: reg(0x5600, 'RW'),
} as const satisfies Record<string, Register>;

export type RegisterName = keyof typeof REG;

/** Multicast table: 128 words of 32 bits = 4096 hash bits. */
export const MTA_ENTRIES = 128;
/** Receive addresses: 16 pairs RAL, RAH, 8 bytes apart. */
export const RA_ENTRIES = 16;
/** VLAN filter: 128 words of 32 bits, one bit for each VLAN id. */
export const VFTA_ENTRIES = 128;

export const CTRL_FD = 1 << 0; // full duplex
export const CTRL_LRST = 1 << 3; // link reset (fibre only)
export const CTRL_ASDE = 1 << 5; // auto-speed detection
export const CTRL_SLU = 1 << 6; // set link up
export const CTRL_FRCSPD = 1 << 11; // force speed
export const CTRL_FRCDPX = 1 << 12; // force duplex
export const CTRL_RST = 1 << 26; // device reset, self-clearing
export const CTRL_VME = 1 << 30; // VLAN mode: strip on receive, insert on transmit
export const CTRL_PHY_RST = (1 << 31) >>> 0; // PHY reset, self-clearing

export const CTRL_EXT_EE_RST = 1 << 13; // reload from the EEPROM, self-clearing

export const STATUS_FD = 1 << 0; // full duplex
export const STATUS_LU = 1 << 1; // link up
export const STATUS_SPEED = 0xc0; // 0x00 10, 0x40 100, 0x80 and 0xc0 1000 Mbit/s
export const STATUS_SPEED_1000 = 0x80;

export const EECD_SK = 1 << 0; // clock
export const EECD_CS = 1 << 1; // chip select
export const EECD_DI = 1 << 2; // data to the EEPROM
export const EECD_DO = 1 << 3; // data of the EEPROM
export const EECD_FWE_DISABLE = 1 << 4; // flash writes disabled
export const EECD_REQ = 1 << 6; // software asks for the EEPROM
export const EECD_GNT = 1 << 7; // and has it
export const EECD_PRES = 1 << 8; // EEPROM present

export const EERD_START = 1 << 0;
export const EERD_DONE = 1 << 4;
export const EERD_ADDR_SHIFT = 8;
export const EERD_DATA_SHIFT = 16;

/** The 82540EM's microwire EEPROM: 64 words of 16 bits; all of them add up to 0xbaba. [8254x §5.6] */
export const EEPROM = { WORDS: 64, MAC: 0, CHECKSUM: 63, SUM: 0xbaba } as const;

export const MDIC_DATA = 0xffff;
export const MDIC_REG_SHIFT = 16; // 5 bits
export const MDIC_PHY_SHIFT = 21; // 5 bits
export const MDIC_OP_WRITE = 1 << 26;
export const MDIC_OP_READ = 2 << 26;
export const MDIC_READY = 1 << 28;
export const MDIC_INT = 1 << 29; // interrupt (MDAC) at the end of the cycle
export const MDIC_ERROR = 1 << 30;
/** MDIO address of the internal PHY. */
export const PHY_ADDRESS = 1;

/** Interrupt causes, the same bits in ICR, ICS, IMS and IMC. */
export const ICR_TXDW = 1 << 0; // transmit descriptor written back
export const ICR_TXQE = 1 << 1; // transmit queue empty
export const ICR_LSC = 1 << 2; // link status change
export const ICR_RXDMT0 = 1 << 4; // few receive descriptors left, see RCTL.RDMTS
export const ICR_RXO = 1 << 6; // receiver overrun: a frame found no descriptor
export const ICR_RXT0 = 1 << 7; // receive timer: packets wait
export const ICR_MDAC = 1 << 9; // MDI/O access complete
export const ICR_TXD_LOW = 1 << 15; // few transmit descriptors in use, see TXDCTL.LWTHRESH
export const ICR_SRPD = 1 << 16; // small receive packet detected, see RSRPD

/** ITR holds 16 bits in units of 256 ns: the least time between two interrupts; 0 = no limit. */
export const ITR_UNIT_NS = 256;
/** RDTR, RADV, TIDV and TADV hold 16 bits in units of 1.024 us. */
export const DELAY_UNIT_NS = 1024;
/** RDTR and TIDV: write back and interrupt now, self-clearing. */
export const DELAY_FPD = (1 << 31) >>> 0;

export const RCTL_EN = 1 << 1;
export const RCTL_UPE = 1 << 3; // unicast promiscuous
export const RCTL_MPE = 1 << 4; // multicast promiscuous
export const RCTL_LPE = 1 << 5; // long packets: more than 1522 bytes with FCS
export const RCTL_LBM = 3 << 6; // loopback mode
export const RCTL_LBM_MAC = 1 << 6;
export const RCTL_RDMTS_SHIFT = 8; // low threshold: 0 = 1/2, 1 = 1/4, 2 = 1/8 of the ring
export const RCTL_MO_SHIFT = 12; // multicast offset: which 12 bits of the address are the hash
export const RCTL_BAM = 1 << 15; // accept broadcasts
export const RCTL_BSIZE_SHIFT = 16; // buffer size: 2048 >> n; with BSEX 32768 >> n, n = 1..3
export const RCTL_VFE = 1 << 18; // filter by VFTA
export const RCTL_CFIEN = 1 << 19;
export const RCTL_CFI = 1 << 20;
export const RCTL_PMCF = 1 << 23; // pass MAC control frames
export const RCTL_BSEX = 1 << 25; // buffer sizes times 16
export const RCTL_SECRC = 1 << 26; // strip the FCS

export const RXCSUM_PCSS = 0xff; // first byte of the packet checksum
export const RXCSUM_IPOFL = 1 << 8; // check IPv4 header checksums
export const RXCSUM_TUOFL = 1 << 9; // check TCP and UDP checksums

export const TCTL_EN = 1 << 1;
export const TCTL_PSP = 1 << 3; // pad short packets to 64 bytes with FCS
export const TCTL_CT_SHIFT = 4; // collision threshold, 8 bits
export const TCTL_COLD_SHIFT = 12; // collision distance, 10 bits
export const TCTL_SWXOFF = 1 << 22; // send a PAUSE frame, self-clearing

export const TXDCTL_LWTHRESH_SHIFT = 25; // low threshold in units of 8 descriptors, 7 bits
export const RAH_AV = (1 << 31) >>> 0; // address valid

/** Legacy receive descriptor, 16 bytes, little endian. [8254x §3.2.3] */
export const RX_DESC = {
  SIZE: 16,
  ADDR: 0,
  LENGTH: 8,
  CHECKSUM: 10,
  STATUS: 12,
  ERRORS: 13,
  SPECIAL: 14,
} as const;
export const RX_STATUS_DD = 1 << 0; // done: hardware has handed it back
export const RX_STATUS_EOP = 1 << 1; // last descriptor of the packet
export const RX_STATUS_IXSM = 1 << 2; // ignore TCPCS, IPCS and the checksum errors
export const RX_STATUS_VP = 1 << 3; // CTRL.VME: the packet's VLAN tag (type VET) was stripped into `special`
export const RX_STATUS_TCPCS = 1 << 5; // TCP or UDP checksum was computed
export const RX_STATUS_IPCS = 1 << 6; // IPv4 header checksum was computed
export const RX_STATUS_PIF = 1 << 7; // passed an inexact filter only: software must check the address
export const RX_ERROR_TCPE = 1 << 5; // TCP or UDP checksum wrong
export const RX_ERROR_IPE = 1 << 6; // IPv4 header checksum wrong

/** Transmit descriptor, legacy and data form, 16 bytes, little endian. [8254x §3.3.3, §3.3.7] */
export const TX_DESC = {
  SIZE: 16,
  ADDR: 0,
  /** u32: length (16 bits legacy, 20 bits data), CSO or DTYP, command. */
  LOWER: 8,
  /** u32: status, CSS or POPTS, special. */
  UPPER: 12,
  STATUS: 12,
} as const;

/** Command bits as they stand in the u32 `lower`. */
export const TX_CMD_EOP = 1 << 24; // last descriptor of the packet
export const TX_CMD_IFCS = 1 << 25; // append the FCS
export const TX_CMD_IC = 1 << 26; // legacy: insert a checksum (CSO, CSS); data: TSE
export const TX_CMD_TSE = 1 << 26; // data: TCP segmentation; context: set it up
export const TX_CMD_RS = 1 << 27; // report status: write DD back
export const TX_CMD_DEXT = 1 << 29; // extended descriptor: data or context
export const TX_CMD_VLE = 1 << 30; // insert the VLAN tag of `special`
export const TX_CMD_IDE = (1 << 31) >>> 0; // delay the interrupt by TIDV
export const TX_DTYP = 0xf << 20; // with DEXT: 0 context, 1 data
export const TX_DTYP_CONTEXT = 0 << 20;
export const TX_DTYP_DATA = 1 << 20;
export const TX_LEGACY_LENGTH = 0xffff;
export const TX_DATA_LENGTH = 0xfffff;
/** Context descriptor's own command bits (TUCMD), in place of EOP and IFCS. */
export const TX_TUCMD_TCP = 1 << 24; // 1 TCP, 0 UDP
export const TX_TUCMD_IP = 1 << 25; // 1 IPv4, 0 IPv6
/** Status (low byte of `upper`). */
export const TX_STATUS_DD = 1 << 0;
/** Packet options of a data descriptor as they stand in the u32 `upper`. */
export const TX_POPTS_IXSM = 1 << 8; // insert the IPv4 header checksum
export const TX_POPTS_TXSM = 1 << 9; // insert the TCP or UDP checksum

const NAMES = new Map<number, string>(
  (Object.keys(REG) as RegisterName[]).map((name) => [REG[name].offset, name]),
);
for (let i = 0; i < MTA_ENTRIES; i++) NAMES.set(REG.MTA.offset + 4 * i, `MTA[${i}]`);
for (let i = 0; i < VFTA_ENTRIES; i++) NAMES.set(REG.VFTA.offset + 4 * i, `VFTA[${i}]`);
for (let i = 0; i < RA_ENTRIES; i++) {
  NAMES.set(REG.RAL0.offset + 8 * i, `RAL${i}`);
  NAMES.set(REG.RAH0.offset + 8 * i, `RAH${i}`);
}

/** "RDT" for 0x2818, "MTA[3]" for 0x520c, "0x2abc" for a hole. */
export function registerName(offset: number): string {
  return NAMES.get(offset) ?? `0x${offset.toString(16)}`;
}
