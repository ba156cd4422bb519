/** Command line of the program `machine`. */
import { formatMac, isMulticast, parseMac } from '#common/wire/ethernet';
import {
  OptionError,
  parseWire,
  parseWireOptions,
  splitKeys,
  type WireOptions,
  type WireSpec,
} from './wires/index.ts';

export interface NicOptions {
  readonly model: string;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  readonly wire: WireSpec;
}

export interface MachineOptions {
  readonly nics: readonly NicOptions[];
  /** Fixed names and forwards, for the user wires. */
  readonly wires: WireOptions;
}

const MODELS = ['e1000'];
const DEFAULT_MAC = '52:54:00:12:34:56';
const DEFAULT_WIRE = 'user';
/** Slots 3..31 of bus 0, and room below the I/O APIC. */
const MAX_NICS = 8;

/** Parses the words behind the program's name. Throws OptionError with a hint how to mend it. */
export function parseOptions(words: readonly string[]): MachineOptions {
  const nics: string[] = [];
  const hosts: string[] = [];
  const guestForwards: string[] = [];
  const hostForwards: string[] = [];
  const lists = new Map([
    ['--nic', nics],
    ['--host', hosts],
    ['--guest-forward', guestForwards],
    ['--host-forward', hostForwards],
  ]);
  for (let n = 0; n < words.length; n++) {
    const word = words[n] as string;
    const equals = word.startsWith('--') ? word.indexOf('=') : -1;
    const name = equals < 0 ? word : word.slice(0, equals);
    const list = lists.get(name);
    if (!list) {
      throw new OptionError(
        `Cannot use option "${word}" as machine takes --nic, --host, --guest-forward and --host-forward only`,
      );
    }
    const value = equals < 0 ? words[++n] : word.slice(equals + 1);
    if (value === undefined || value === '') {
      throw new OptionError(`Cannot use option ${name} as it needs a value: write e.g. ${EXAMPLES[name]}`);
    }
    list.push(value);
  }
  const parsed = parseNics(nics);
  if (hostForwards.length > 0 && !parsed.some(({ wire }) => wire.kind === 'user')) {
    throw new OptionError(
      `Cannot use --host-forward ${hostForwards[0]} as it needs a NIC with wire=user: there is none`,
    );
  }
  return { nics: parsed, wires: parseWireOptions(hosts, guestForwards, hostForwards) };
}

const EXAMPLES: Record<string, string> = {
  '--nic': '--nic e1000,mac=52:54:00:12:34:56,wire=user',
  '--host': '--host www.example.org=10.0.2.100',
  '--guest-forward': '--guest-forward 10.0.2.100:80=localhost:8080',
  '--host-forward': '--host-forward 8080=10.0.2.15:80',
};

function parseNics(values: readonly string[]): NicOptions[] {
  if (values.includes('none')) {
    if (values.length === 1) return [];
    throw new OptionError('Cannot use --nic none as it must be the only --nic: remove one of them');
  }
  const texts = values.length === 0 ? ['e1000'] : values;
  if (texts.length > MAX_NICS) {
    throw new OptionError(
      `Cannot use so many --nic options as the machine has ${MAX_NICS} slots: current value is ${texts.length}`,
    );
  }
  const taken = new Map<string, string>();
  return texts.map((text, n) => {
    const nic = parseNic(text, n);
    const mac = formatMac(nic.mac);
    const other = taken.get(mac);
    if (other !== undefined) {
      throw new OptionError(
        `Cannot use --nic ${text} as each NIC needs its own MAC: ${mac} belongs to --nic ${other} already; add mac=`,
      );
    }
    taken.set(mac, text);
    return nic;
  });
}

/** NIC `n` gets the default MAC plus n, so that several NICs need no `mac=`. */
function parseNic(text: string, n: number): NicOptions {
  const { head: model, keys } = splitKeys(text, '--nic');
  if (!MODELS.includes(model)) {
    throw new OptionError(
      `Cannot use --nic ${text} as the model must be one of ${MODELS.join(', ')} (or none): current value is "${model}"`,
    );
  }
  const mac = macOf(keys.get('mac') ?? DEFAULT_MAC, text);
  if (!keys.has('mac')) mac[5] = (mac[5] as number) + n;
  // Keys that are not the NIC's are the wire's.
  const wire = [keys.get('wire') ?? DEFAULT_WIRE];
  for (const [key, value] of keys) if (key !== 'mac' && key !== 'wire') wire.push(`${key}=${value}`);
  try {
    return { model, mac, wire: parseWire(wire.join(',')) };
  } catch (err) {
    if (!(err instanceof OptionError)) throw err;
    throw new OptionError(`Cannot use --nic ${text}: ${err.message}; keys of the NIC are mac and wire`);
  }
}

function macOf(text: string, nic: string): Uint8Array {
  const bytes = parseMac(text);
  if (bytes && !isMulticast(bytes, 0) && bytes.some((byte) => byte !== 0)) return bytes;
  const rule = bytes
    ? 'the MAC must be a unicast address'
    : 'the MAC must be six bytes in hex, xx:xx:xx:xx:xx:xx';
  throw new OptionError(`Cannot use --nic ${nic} as ${rule}: current value is "${text}"`);
}

/** "user", "tap:tap0": what a wire is called in a status. */
export function wireName({ kind, target }: { kind: string; target: string }): string {
  return target === '' ? kind : `${kind}:${target}`;
}
