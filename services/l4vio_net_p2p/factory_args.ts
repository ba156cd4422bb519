/**
 * Arguments of `create(0, ...)`: strings `key=value` in any order, the last of a key wins. The sentences start with the
 * words of the original (F3.12).
 */
import { L4Error } from '#common/ipc/errors';

/** What a script asked for. */
export interface PortSpec {
  /** Dataspaces that the client may register. */
  readonly dsMax: number;
  readonly mac?: Uint8Array;
}

/** One argument as FactoryArgument of factory.proto carries it. */
export interface Argument {
  readonly text?: string | null;
  readonly nil?: boolean | null;
}

const DEFAULT_DS_MAX = 2;
const MAX_DS_MAX = 80;
const DS_MAX = 'ds-max=';
/** The original documents the first and understands the second. */
const MAC_KEYS = ['mac=', 'mac-addr='];

/**
 * Parses the arguments behind the object type. What is no option is told to `ignored` and left out, as in the original.
 * Throws L4Error EINVAL.
 */
export function parsePortArguments(args: readonly Argument[], ignored: (line: string) => void): PortSpec {
  let dsMax = DEFAULT_DS_MAX;
  let mac: Uint8Array | undefined;
  for (const [index, { text, nil }] of args.entries()) {
    // Scripts' argument lists end in a nil, which stands for nothing.
    if (nil) continue;
    if (typeof text !== 'string') {
      throw refuse('P2P_ARGUMENT_TYPE', `String parameter expected: argument ${index + 2} is none`);
    }
    const macKey = MAC_KEYS.find((key) => text.startsWith(key));
    if (text.startsWith(DS_MAX)) dsMax = parseDsMax(text.slice(DS_MAX.length));
    else if (macKey !== undefined) mac = parseMac(macKey.slice(0, -1), text.slice(macKey.length));
    else
      ignored(
        `Invalid client option ignored. '${text}'. It must be ds-max=N or mac=xx:xx:xx:xx:xx:xx; names, types and VLANs are l4vio_switch's`,
      );
  }
  return mac === undefined ? { dsMax } : { dsMax, mac };
}

function parseDsMax(value: string): number {
  const count = /^-?\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
  if (Number.isNaN(count)) {
    throw refuse(
      'P2P_DS_MAX',
      `Bad parameter 'ds-max='. Invalid number specified. It must be 1..${MAX_DS_MAX}: current value is '${value}'`,
    );
  }
  if (count < 1 || count > MAX_DS_MAX) {
    throw refuse(
      'P2P_DS_MAX',
      `Invalid range for parameter 'ds-max'. Number must be between 1 and ${MAX_DS_MAX} inclusive: current value is ${value}`,
    );
  }
  return count;
}

/** Bytes may have one digit: `2:0:0:0:0:1`. */
function parseMac(key: string, value: string): Uint8Array {
  if (!/^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(value)) {
    throw refuse(
      'P2P_BAD_MAC',
      `Invalid value for parameter '${key}'. Must be of the form 'xx:xx:xx:xx:xx:xx': current value is '${value}'`,
    );
  }
  return Uint8Array.from(value.split(':'), (byte) => Number.parseInt(byte, 16));
}

function refuse(code: string, message: string): L4Error {
  return new L4Error('EINVAL', message, { code });
}
