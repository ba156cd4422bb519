/**
 * What `ethtool -K DEVICE tx off tso off gso off` does: `node dist/test/integration/checksums_off.js DEVICE`.
 *
 * Between namespaces no hardware completes the checksums that Linux leaves to it, and a UDP socket gets them as they are.
 */
import { Arena } from '#common/shm/arena';
import { ioctl, lastError, socket } from '../../services/machine/wires/libc.ts';

const SIOCETHTOOL = 0x8946;
const ETHTOOL_STXCSUM = 0x17;
const ETHTOOL_STSO = 0x1f;
const ETHTOOL_SGSO = 0x24;
const NAME_BYTES = 16;

const arena = new Arena(2 ** 20);
const request = arena.mapPrivate(4096);
const value = request + 64;
const device = process.argv[2] ?? '';
arena.u8.set(Buffer.from(device).subarray(0, NAME_BYTES - 1), request);
arena.view.setBigUint64(request + NAME_BYTES, BigInt(arena.address + value), true);
const fd = socket();
for (const command of [ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM]) {
  arena.view.setUint32(value, command, true);
  arena.view.setUint32(value + 4, 0, true);
  const failed = ioctl(fd, SIOCETHTOOL, arena.address + request) < 0;
  if (failed) throw new Error(`Cannot set up ${device} (command ${command}): ${lastError()}`);
}
