/** Ports as people name them on the command line. */
import { L4Error } from '#common/ipc/errors';
import type { Port, PortList } from './port_list.ts';

/** Ports that a message names, at most. */
const MAX_SHOWN = 32;
/** Characters of what was asked for that a message repeats. */
const MAX_TEXT = 64;

/** The port of that name, or else of that number. Throws L4Error ENOENT with all ports, EINVAL when the name is not unique. */
export function findPort(ports: PortList, wanted: string): Port {
  const all = ports.all();
  const named = all.filter(({ name }) => name === wanted);
  if (named.length > 1) {
    const numbers = named.map(({ number }) => number).join(', ');
    throw new L4Error(
      'EINVAL',
      `Cannot find port '${wanted}' as ${named.length} ports have that name: give a number instead: ${numbers}`,
      { code: 'VSWITCH_PORT_NAME' },
    );
  }
  const [port] = named.length === 1 ? named : all.filter(({ number }) => String(number) === wanted);
  if (port) return port;
  const shown = all.slice(0, MAX_SHOWN).map(({ name, number }) => `'${name}' (${number})`);
  if (all.length > MAX_SHOWN) shown.push(`and ${all.length - MAX_SHOWN} more`);
  const known = shown.join(', ') || 'none';
  throw new L4Error(
    'ENOENT',
    `Cannot find port '${wanted.slice(0, MAX_TEXT)}' as the switch has no such port: it has ${known}`,
    {
      code: 'VSWITCH_NO_SUCH_PORT',
    },
  );
}
