import { expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { writeIpv4 } from './address.ts';
import { ERR } from './errors.ts';
import { loadLwip } from './ffi.ts';
import { drawFirstPort } from './first_port.ts';
import { TCP_PCB } from './layout.ts';

const RANGE = 2 ** 14;

it('drawFirstPort() draws again when lwIP would refuse the first connection', () => {
  const arena = new Arena(2 ** 24);
  const at = arena.mapPrivate(4096);
  const ffi = loadLwip();
  ffi.lwip_init();
  writeIpv4(arena, at, 0);
  /** The port that the next connection gets, or lwIP's error. */
  const next = (): number => {
    const pcb = ffi.tcp_new_ip_type(0);
    const err = ffi.tcp_bind(pcb, arena.address + at, 0);
    const port = new DataView(ffi.view(pcb, TCP_PCB.SIZE)).getUint16(TCP_PCB.LOCAL_PORT, true);
    ffi.tcp_abort(pcb);
    return err === ERR.OK ? port : err;
  };
  const refused: number[] = [];
  for (let seed = 1; seed < 8 * RANGE && refused.length < 3; seed++) {
    ffi.srand(seed);
    ffi.tcp_init();
    if (next() === ERR.BUF) refused.push(seed);
  }
  expect(refused).toHaveLength(3);
  for (const seed of refused) {
    ffi.srand(seed);
    ffi.tcp_init();
    drawFirstPort(ffi, arena, at);
    const port = next();
    expect(port).toBeGreaterThanOrEqual(0xc000);
    expect(next()).toBe(port === 0xfffe ? 0xc000 : port + 1);
  }
});
