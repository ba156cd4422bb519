/** Command line of the program `ixl`. */
import { L4Error } from '#common/ipc/errors';

export interface Options {
  /** Which Ethernet controller of the vbus: 0 is the first. */
  readonly index: number;
  readonly help: boolean;
}

export const USAGE = `Usage: ixl [--index N]
Drives one NIC and serves it to a port of l4vio_switch.

  -i, --index N   which Ethernet controller of the vbus, counted from 0 (default 0)
  -h, --help      prints this

Capabilities:
  vbus            the virtual bus with the NIC, from io
  port            the port of the switch (services L4virtio, Icu and NicPort)
`;

/** `args`: what follows argv[0]. Throws L4Error EINVAL. */
export function parseOptions(args: readonly string[]): Options {
  let [index, help] = [0, false];
  for (let n = 0; n < args.length; n++) {
    const [name, attached] = split(args[n] as string);
    if (name === '-h' || name === '--help') {
      help = true;
    } else if (name === '-i' || name === '--index') {
      const value = attached ?? args[++n];
      if (value === undefined || !/^\d{1,4}$/.test(value)) {
        throw new L4Error(
          'EINVAL',
          `Cannot start ixl as ${name} must be a number 0..9999: current value is "${value ?? ''}"`,
        );
      }
      index = Number(value);
    } else {
      throw new L4Error('EINVAL', `Cannot start ixl as it has no option "${name}": see ixl --help`);
    }
  }
  return { index, help };
}

/** "--index=3" is name and value in one. */
function split(arg: string): [string, string | undefined] {
  const at = arg.startsWith('--') ? arg.indexOf('=') : -1;
  return at < 0 ? [arg, undefined] : [arg.slice(0, at), arg.slice(at + 1)];
}
