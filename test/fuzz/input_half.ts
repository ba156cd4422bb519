/**
 * What people and programs tell a switch: factory arguments, options, names of ports, the words of a NIC's driver. Whatever it
 * is, it is taken and works, or is refused with one sentence: nothing else is thrown, nothing is left behind.
 */
import fc from 'fast-check';
import { L4Error } from '#common/ipc/errors';
import { Memory } from '#common/memory';
import { ethernet } from '#common/vnet/testing/mock_client';
import { findPort } from '../../services/l4vio_switch/control_port_names.ts';
import { type PortSpec, parsePortArguments } from '../../services/l4vio_switch/factory_args.ts';
import { Forwarder } from '../../services/l4vio_switch/forward.ts';
import { Log } from '../../services/l4vio_switch/log.ts';
import { parseMac } from '../../services/l4vio_switch/mac_address.ts';
import { OptionError, parseOptions } from '../../services/l4vio_switch/options.ts';
import { isOnlooker, type Port, PortList } from '../../services/l4vio_switch/port_list.ts';
import { RECORDER_BYTES, Recorder } from './recorder.ts';

const MAX_PORTS = 4;
/** Characters of a message: it may repeat an argument of 4096. */
const LONGEST = 6000;

export interface InputProgram {
  readonly half: 'input';
  /** Lists of words, one after the other. */
  readonly lists: readonly (readonly string[])[];
}

const KEYS =
  'ds-max name type vlan mac mirror rate-in rate-out storm filter mtu vni remote group local port dev allow ttl'
    .split(' ')
    .map((key) => `${key}=`);
const OPTIONS = [
  '-p',
  '-s',
  '-M',
  '-m',
  '-D',
  '-v',
  '-q',
  '-d',
  '--nic',
  '--vxlan',
  '--mtu',
  '--storm',
  '--mac-age',
];
const VALUES = [
  'monitor',
  'mirror',
  'vxlan',
  'none',
  'all',
  'access=7',
  'trunk=1,2',
  'trunk=all',
  'arp,0x88f7',
  '10M,64k',
];
const MORE = [
  '239.1.1.1',
  '[2001:db8::1]:4789',
  '[fe80::1]',
  '192.0.2.1:4789',
  '192.0.2.0/24',
  'a',
  '',
  'eth0',
  '0',
  '-1',
];
const NUMBERS = [
  '1',
  '7',
  '42',
  '256',
  '4095',
  '65535',
  '65536',
  '16777216',
  '1e3',
  '0x10',
  '99999999999999999999',
];

const value = fc.oneof(
  fc.constantFrom(...VALUES, ...MORE, ...NUMBERS),
  fc.string({ maxLength: 40 }),
  fc.ipV4(),
  fc.ipV6().map((text) => `[${text}]`),
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc.nat(20_000).map((n) => '7,'.repeat(n)),
);
const word = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(fc.constantFrom(...KEYS), value).map((both) => both.join('')) },
  { weight: 1, arbitrary: fc.constantFrom(...OPTIONS) },
  { weight: 1, arbitrary: value },
);
/** What belongs together, now and then with one word that does not. */
const tunnel = fc
  .tuple(fc.nat(20), fc.ipV4(), fc.array(word, { maxLength: 2 }))
  .map(([vni, remote, more]) => ['type=vxlan', `vni=${vni}`, `remote=${remote}`, ...more]);

const onlooker = fc
  .tuple(fc.constantFrom(['type=monitor'], ['type=mirror', 'mirror=a,[0]']), fc.array(word, { maxLength: 2 }))
  .map(([type, more]) => [...type, ...more]);

export function inputPrograms(): fc.Arbitrary<InputProgram> {
  return fc.record({
    half: fc.constant('input' as const),
    lists: fc.array(fc.oneof(fc.array(word, { maxLength: 8 }), tunnel, onlooker), {
      minLength: 1,
      maxLength: 40,
    }),
  });
}

/** Runs a program. Returns the number of words. Throws what is wrong. */
export function runInputProgram({ lists }: InputProgram): number {
  let operations = 0;
  const rig = new InputRig();
  for (const list of lists) {
    operations += list.length;
    rig.create(list);
    rig.options(list);
    for (const one of list) rig.name(one);
  }
  return operations;
}

class InputRig {
  readonly #list: PortList;
  readonly #memory = new Memory(new ArrayBuffer((MAX_PORTS + 1) * RECORDER_BYTES));
  readonly #forwarder: Forwarder;

  constructor() {
    const log = new Log({ out: () => {}, err: () => {} });
    this.#list = new PortList({ maxPorts: MAX_PORTS, assignMacs: true, log });
    this.#forwarder = new Forwarder(MAX_PORTS, log, { clock: () => 0 });
  }

  /** create(0, ...), a frame through the port, and the port as a switch that is started again makes it. */
  create(texts: readonly string[]): void {
    const before = this.#list.all().length;
    let port: Port;
    let spec: PortSpec;
    try {
      spec = parsePortArguments(texts.map((text) => ({ text })));
      port = this.#list.create(spec);
    } catch (err) {
      expectRefusal(err);
      if (this.#list.all().length !== before)
        throw new Error('a port is left that was refused', { cause: err });
      return;
    }
    const { number } = port;
    const recorder = new Recorder(this.#memory, number * RECORDER_BYTES, number, this.#forwarder, () => {});
    this.#forwarder.connect(number, recorder, port.spec);
    if (!isOnlooker(port.kind)) {
      recorder.send(Buffer.from(ethernet(-1, number)));
      recorder.handle(1);
    }
    if (port.kind !== 'nic' && findByNumber(this.#list, port) !== port)
      throw new Error('a port is not found');
    this.#forwarder.disconnect(number);
    this.#list.remove(number);
    if (this.#list.restore(spec, port).kind !== port.kind)
      throw new Error('a port comes back as another one');
    if (before < 2 && !spec.monitor) return;
    this.#list.remove(number);
  }

  options(args: readonly string[]): void {
    try {
      parseOptions(args);
      parseOptions(['--vxlan', args.filter((text) => !text.startsWith('-')).join(',')]);
    } catch (err) {
      if (!(err instanceof OptionError)) throw err;
      // A command line is its writer's own, and may be repeated as a whole.
      expectSentence(err, LONGEST + args.join().length);
    }
  }

  name(text: string): void {
    parseMac(text);
    try {
      findPort(this.#list, text);
    } catch (err) {
      expectRefusal(err);
    }
  }
}

function findByNumber(list: PortList, { number, name }: Port): Port | undefined {
  const same = list.all().filter((port) => port.name === name || port.name === String(number));
  return same.length > 1 ? list.get(number) : findPort(list, String(number));
}

/** Of the switch, with a code. */
function expectRefusal(err: unknown): void {
  if (!(err instanceof L4Error)) throw err;
  if (!err.code.startsWith('VSWITCH_') && err.code !== 'L4_EINVAL')
    throw new Error(`"${err.message}" has the code ${err.code}`, { cause: err });
  expectSentence(err);
}

function expectSentence(err: Error, longest = LONGEST): void {
  if (err.message === '' || err.message.length > longest)
    throw new Error(`a message has ${err.message.length} characters`, { cause: err });
}
