/**
 * Checks that the loaded liblwip is laid out as `layout.ts` says, on living objects, before anything else.
 *
 * Debian builds lwIP with its own options and the library exports no version; a build with other options would
 * make us write into the wrong fields. So: sizes as lwIP's own pool descriptors give them, then a pbuf and a TCP
 * and a UDP pcb whose fields must hold what the calls made before put there. The netif is checked when it is added
 * (`netif.ts`). A difference ends the program with a sentence, never silently.
 */
import type { Memory } from '#common/memory';
import { writeIpv4 } from './address.ts';
import type { Ffi } from './ffi.ts';
import {
  PBUF,
  PBUF_FLAG_IS_CUSTOM,
  PBUF_LAYER,
  PBUF_TYPE,
  TCP_PCB,
  TCP_STATE,
  TCP_WND,
  TCP_WRITE_FLAG_COPY,
  UDP_PCB,
} from './layout.ts';

/** Throws unless `actual` is `expected`. */
export function check(what: string, actual: number, expected: number): void {
  if (actual === expected) return;
  throw new Error(
    `Cannot use liblwip.so.0 as ${what} must be ${expected}: current value is ${actual}. ` +
      'It is not the lwIP 2.1.3 that Debian ships: sudo apt-get install -y --reinstall liblwip0',
  );
}

/** Runs all checks; `at` is the offset of at least 256 free bytes. */
export function selfTest(ffi: Ffi, memory: Memory & { readonly address: number }, at: number): void {
  checkPools(ffi);
  checkPbuf(ffi, memory, at);
  checkTcp(ffi, memory, at);
  checkUdp(ffi, memory, at);
}

/** struct memp_desc holds the element size first when pools come from malloc (memp_priv.h). */
function checkPools(ffi: Ffi): void {
  const size = (pool: string): number => new Uint16Array(ffi.view(ffi.symbol(pool), 2))[0] as number;
  check('the size of struct tcp_pcb', size('memp_TCP_PCB'), TCP_PCB.SIZE);
  check('the size of struct udp_pcb', size('memp_UDP_PCB'), UDP_PCB.SIZE);
  check('the size of struct pbuf', size('memp_PBUF'), PBUF.SIZE);
}

function checkPbuf(ffi: Ffi, memory: Memory & { readonly address: number }, at: number): void {
  const p = ffi.pbuf_alloc(PBUF_LAYER.RAW, 777, PBUF_TYPE.RAM);
  const heap = new DataView(ffi.view(p, PBUF.SIZE));
  check('pbuf.tot_len', heap.getUint16(PBUF.TOT_LEN, true), 777);
  check('pbuf.len', heap.getUint16(PBUF.LEN, true), 777);
  check('pbuf.ref', heap.getUint8(PBUF.REF), 1);
  check('pbuf.payload', Number(heap.getBigUint64(PBUF.PAYLOAD, true)), p + PBUF.SIZE);
  ffi.pbuf_free(p);

  const { view, address } = memory;
  const payload = address + at + PBUF.CUSTOM_SIZE;
  const custom = ffi.pbuf_alloced_custom(PBUF_LAYER.RAW, 60, PBUF_TYPE.REF, address + at, payload, 64);
  check('pbuf_alloced_custom()', custom, address + at);
  check('pbuf_custom.payload', Number(view.getBigUint64(at + PBUF.PAYLOAD, true)), payload);
  check('pbuf_custom.len', view.getUint16(at + PBUF.LEN, true), 60);
  check('pbuf_custom.type_internal', view.getUint8(at + PBUF.TYPE), PBUF_TYPE.REF);
  check('pbuf_custom.flags', view.getUint8(at + PBUF.FLAGS), PBUF_FLAG_IS_CUSTOM);
  check('pbuf_custom.ref', view.getUint8(at + PBUF.REF), 1);
}

function checkTcp(ffi: Ffi, memory: Memory & { readonly address: number }, at: number): void {
  const pcb = ffi.tcp_new_ip_type(0);
  ffi.tcp_arg(pcb, 0x12345);
  const view = new DataView(ffi.view(pcb, TCP_PCB.SIZE));
  check('tcp_pcb.callback_arg', Number(view.getBigUint64(TCP_PCB.CALLBACK_ARG, true)), 0x12345);
  check('tcp_pcb.snd_buf', view.getUint32(TCP_PCB.SND_BUF, true), TCP_WND);
  check('tcp_pcb.rcv_wnd', view.getUint32(TCP_PCB.RCV_WND, true), TCP_WND);
  check('tcp_pcb.rto', view.getInt16(TCP_PCB.RTO, true), 6);
  check('tcp_pcb.keep_idle', view.getUint32(TCP_PCB.KEEP_IDLE, true), 7_200_000);
  check('tcp_pcb.keep_intvl', view.getUint32(TCP_PCB.KEEP_INTVL, true), 75_000);
  check('tcp_pcb.keep_cnt', view.getUint32(TCP_PCB.KEEP_CNT, true), 9);
  check('tcp_pcb.state', view.getUint32(TCP_PCB.STATE, true), 0);
  check('tcp_pcb.flags', view.getUint16(TCP_PCB.FLAGS, true), 0);
  check('tcp_pcb.snd_queuelen', view.getUint16(TCP_PCB.SND_QUEUELEN, true), 0);
  checkTcpList(ffi, memory, at, pcb);
  checkTcpQueues(ffi, view, pcb);
  ffi.tcp_abort(pcb);
}

/** lwIP queues what is written to an established connection, and sends nothing by itself. */
function checkTcpQueues(ffi: Ffi, pcb: DataView, address: number): void {
  const { UNSENT, UNACKED, PERSIST_BACKOFF, SND_QUEUELEN, STATE } = TCP_PCB;
  const word = (at: number): number => Number(pcb.getBigUint64(at, true));
  check('tcp_pcb.unsent of nothing', word(UNSENT), 0);
  check('tcp_pcb.persist_backoff', pcb.getUint8(PERSIST_BACKOFF), 0);
  pcb.setUint32(STATE, TCP_STATE.ESTABLISHED, true);
  check('tcp_write()', ffi.tcp_write(address, Uint8Array.of(1), 1, TCP_WRITE_FLAG_COPY), 0);
  pcb.setUint32(STATE, TCP_STATE.CLOSED, true);
  check('tcp_pcb.snd_queuelen of a byte', pcb.getUint16(SND_QUEUELEN, true), 1);
  check('whether tcp_pcb.unsent is set by a byte', Number(word(UNSENT) !== 0), 1);
  check('tcp_pcb.unacked', word(UNACKED), 0);
}

/** lwIP puts what is bound at the head of a list. */
function checkTcpList(
  ffi: Ffi,
  memory: Memory & { readonly address: number },
  at: number,
  pcb: number,
): void {
  const next = ffi.tcp_new_ip_type(0);
  writeIpv4(memory, at, 0);
  check('tcp_bind()', ffi.tcp_bind(next, memory.address + at, 0), 0);
  check('tcp_bind()', ffi.tcp_bind(pcb, memory.address + at, 0), 0);
  const view = new DataView(ffi.view(pcb, TCP_PCB.SIZE));
  check('tcp_pcb.next', Number(view.getBigUint64(TCP_PCB.NEXT, true)), next);
  ffi.tcp_abort(next);
}

function checkUdp(ffi: Ffi, memory: Memory & { readonly address: number }, at: number): void {
  const pcb = ffi.udp_new_ip_type(0);
  writeIpv4(memory, at, 0);
  check('udp_bind()', ffi.udp_bind(pcb, memory.address + at, 0x7a69), 0);
  const view = new DataView(ffi.view(pcb, UDP_PCB.SIZE));
  check('udp_pcb.local_port', view.getUint16(UDP_PCB.LOCAL_PORT, true), 0x7a69);
  ffi.udp_remove(pcb);
}
