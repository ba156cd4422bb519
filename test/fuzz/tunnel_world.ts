/**
 * A switch with three VXLAN ports that share a socket, and who sends to that: honest ends, ends that mean harm, and strangers.
 *
 *   VLAN 7: recorders 0 and 1, port 3 (VNI 42, the two honest ends)
 *   VLAN 8: recorder 2, port 4 (VNI 43, one end, hostile) and port 5 (VNI 44, trunk; a group whose members are hostile)
 *
 * So nothing but what is honest may be seen in VLAN 7 and behind VNI 42, and all of that must be.
 */

import { Memory } from '#common/memory';
import type { Random } from '#common/testing/random';
import { isInside } from '#common/udp/address';
import { Scheduler } from '#common/vnet/scheduler';
import type { SourceFrame } from '#common/vnet/source_frame';
import { SCRATCH_BYTES } from '#common/vnet/virtio_port';
import { parseTunnelArguments } from '../../services/l4vio_switch/factory_args.ts';
import { Forwarder } from '../../services/l4vio_switch/forward.ts';
import { Log } from '../../services/l4vio_switch/log.ts';
import { CAPACITY, MacTable } from '../../services/l4vio_switch/mac_table.ts';
import { REMOTES_BYTES } from '../../services/l4vio_switch/vxlan/remotes.ts';
import { MAX_REMOTES, type VxlanSpec } from '../../services/l4vio_switch/vxlan/spec.ts';
import { Vtep } from '../../services/l4vio_switch/vxlan/vtep.ts';
import { VxlanPort } from '../../services/l4vio_switch/vxlan/vxlan_port.ts';
import { ENDS, type Ends, evilDatagram, evilFrame, evilSender } from './evil_datagrams.ts';
import { DATAGRAMS_BYTES, FakeDatagrams, type Sent } from './fake_datagrams.ts';
import { MAGIC, numberedFrame } from './good_client.ts';
import { RECORDER_BYTES, Recorder } from './recorder.ts';
import { rest } from './rest.ts';

const RECORDERS = 3;
const TUNNELS = 3;
const SOCKETS = 5;
const TUNNEL_BYTES = SCRATCH_BYTES + REMOTES_BYTES;
const MAX_TURNS = 20_000;
const PORT = 4789;
const HEADER = 8;
/** Number of an honest station behind each of the honest ends. */
const [FIRST, SECOND] = [100, 101];
const EVERYBODY = 255;

/** Counts what tunnels bring. */
class CountingForwarder extends Forwarder {
  came = 0;

  override forward(from: number, frame: SourceFrame): void {
    if (from >= RECORDERS) this.came += 1;
    super.forward(from, frame);
  }
}

export class TunnelWorld {
  /** Hostile datagrams so far. */
  operations = 0;
  readonly #ends: Ends;
  readonly #memory: Memory;
  readonly #forwarder: CountingForwarder;
  readonly #scheduler: Scheduler;
  readonly #recorders: [Recorder, Recorder, Recorder];
  readonly #socket: FakeDatagrams;
  readonly #vtep: Vtep;
  readonly #tunnels: VxlanPort[] = [];
  #time = 0;
  #number = 0;
  /** Datagrams that were no frames for their port. */
  #refused = 0;
  /** What has left for VNI 42. */
  #sent: Sent[] = [];

  constructor(family: 4 | 6) {
    this.#ends = ENDS[family];
    const sockets = RECORDERS * RECORDER_BYTES + TUNNELS * TUNNEL_BYTES;
    this.#memory = new Memory(new ArrayBuffer(sockets + SOCKETS * DATAGRAMS_BYTES));
    const clock = () => this.#time;
    const log = new Log({ out: () => {}, err: () => {} });
    this.#forwarder = new CountingForwarder(RECORDERS + TUNNELS, log, { macs: new MacTable(1, 300), clock });
    this.#scheduler = new Scheduler(this.#forwarder);
    const recorder = (n: number) => {
      const judge = (frame: Buffer) => {
        if (frame.includes(MAGIC) === (n === 2))
          throw new Error(`recorder ${n} has a frame of a VLAN, or of somebody, that it must not see`);
      };
      const made = new Recorder(this.#memory, n * RECORDER_BYTES, n, this.#forwarder, judge);
      this.#forwarder.connect(n, made, { access: n === 2 ? 8 : 7 });
      return made;
    };
    this.#recorders = [recorder(0), recorder(1), recorder(2)];
    const opened: FakeDatagrams[] = [];
    const open = () => {
      const at = sockets + opened.length * DATAGRAMS_BYTES;
      const socket = new FakeDatagrams(this.#memory, at, (sent) => this.#judge(sent));
      opened.push(socket);
      return socket;
    };
    const activate = (port: number) => this.#scheduler.activate(port);
    this.#vtep = new Vtep(
      { memory: this.#memory, open, activate, clock },
      { family, port: PORT, device: 'x' },
    );
    this.#socket = opened[0] as FakeDatagrams;
    for (let n = 0; n < TUNNELS; n++) this.#open(n);
  }

  /** `count` datagrams that mean harm, and frames that do. */
  burst(random: Random, count: number): void {
    for (let n = 0; n < count; n++) {
      this.operations += 1;
      const from = evilSender(random, this.#ends);
      this.#socket.arrive(evilDatagram(random), from, random.below(65_536));
      if (random.oneIn(4)) this.#recorders[2].send(evilFrame(random, 14 + random.below(9000)));
      if (random.oneIn(16)) this.run();
    }
  }

  /** A tunnel goes, and comes again. */
  remake(n: number): void {
    const which = n % TUNNELS;
    this.run();
    const tunnel = this.#tunnels[which] as VxlanPort;
    this.#scheduler.forget(tunnel.number);
    this.#forwarder.disconnect(tunnel.number);
    tunnel.close();
    this.#open(which);
  }

  /** The link of a hostile tunnel: the honest are to lose nothing. */
  link(n: number, up: boolean): void {
    const tunnel = this.#tunnels[1 + (n % 2)] as VxlanPort;
    this.#forwarder.setLink(tunnel.number, up);
    if (!up) tunnel.forget();
  }

  pass(seconds: number): void {
    this.#time += seconds * 1000;
  }

  /** Honest traffic through VNI 42, after whatever else has come: all, unchanged, in order, and to whom it is for. */
  exchange(count: number, length: number): void {
    const [one, two] = this.#recorders;
    const { honest } = this.#ends;
    const frame = (from: number, to: number) => {
      const made = numberedFrame(from, to, this.#number++, 60 + (length % 1400));
      return to === EVERYBODY ? made.fill(0xff, 0, 6) : made;
    };
    const hellos = [frame(FIRST, EVERYBODY), frame(SECOND, EVERYBODY)] as const;
    this.#begin();
    for (const [n, hello] of hellos.entries()) this.#arrive(honest[n] as Uint8Array, hello);
    this.run();
    for (const recorder of [one, two]) expectFrames(`recorder ${recorder.number}`, recorder.received, hellos);
    const mine = frame(0, EVERYBODY);
    one.send(mine);
    this.run();
    for (const end of honest) expectFrames('an end', this.#framesTo(end), [mine]);

    this.#begin();
    const out = Array.from({ length: count }, () => frame(0, FIRST));
    const back = Array.from({ length: count }, () => frame(FIRST, 0));
    const last = frame(0, SECOND);
    for (const each of [...out, last]) one.send(each);
    for (const each of back) this.#arrive(honest[0], each);
    this.run();
    expectFrames('the first end', this.#framesTo(honest[0]), out);
    expectFrames('the second end', this.#framesTo(honest[1]), [last]);
    expectFrames('the recorder', one.received, back);
  }

  run(): void {
    for (const { number } of [...this.#recorders, ...this.#tunnels]) this.#scheduler.activate(number);
    rest(this.#scheduler, MAX_TURNS);
    if (this.#socket.waiting > 0) throw new Error(`${this.#socket.waiting} datagrams were not taken`);
  }

  /** Throws when a promise of the switch is broken. */
  check(): void {
    for (const { remotes, stations } of this.#tunnels)
      if (remotes.size > MAX_REMOTES || stations.size > CAPACITY)
        throw new Error(`${remotes.size} ends and ${stations.size} stations are remembered`);
    const seen = this.#forwarder.came + this.#refused + this.#vtep.counters.strangers;
    if (seen !== this.#socket.taken)
      throw new Error(`of ${this.#socket.taken} datagrams ${seen} are accounted for`);
    if (this.#socket.groups.length !== 1) throw new Error(`${this.#socket.groups.length} groups are joined`);
  }

  #begin(): void {
    this.run();
    for (const recorder of this.#recorders) recorder.received = [];
    this.#sent = [];
  }

  #framesTo(end: Uint8Array): Buffer[] {
    return this.#sent
      .filter(({ to }) => String(to) === String(end))
      .map(({ bytes }) => bytes.subarray(HEADER));
  }

  /** An honest frame for VNI 42. */
  #arrive(from: Uint8Array, frame: Buffer): void {
    this.#socket.arrive(Buffer.concat([Buffer.from([8, 0, 0, 0, 0, 0, 42, 0]), frame]), from, 50_000);
  }

  /** Of each datagram that leaves. */
  #judge(sent: Sent): void {
    const { bytes, to, port } = sent;
    const { honest, enemy, group, members, own } = this.#ends;
    const vni = bytes.readUInt32BE(4) / 256;
    const fail = (what: string) => {
      throw new Error(`a datagram of VNI ${vni} to ${to}:${port} ${what}`);
    };
    if (bytes.readUInt32BE(0) !== 0x0800_0000 || port !== PORT) fail('has a bad header, or port');
    const tag =
      bytes.readUInt16BE(HEADER + 12) === 0x8100 ? bytes.readUInt16BE(HEADER + 14) & 0xfff : undefined;
    const is = (end: Uint8Array) => String(end) === String(to);
    if (vni === 42) {
      if (!honest.some(is) || !bytes.includes(MAGIC) || tag !== undefined)
        fail('is not of the honest, for them');
      this.#sent.push(sent);
    } else if (vni === 43) {
      if (!is(enemy) || bytes.includes(MAGIC) || tag !== undefined) fail('is not for the end of that port');
    } else if (vni === 44) {
      const isMember = isInside(members, to) && !isInside(own, to);
      if (!(is(group) || isMember) || bytes.includes(MAGIC) || tag !== 8)
        fail('is not for members of the group');
    } else fail("is nobody's");
  }

  #open(n: number): void {
    const parsed = parseTunnelArguments(this.#ends.tunnels[n] as readonly string[]);
    const spec = parsed.vxlan as VxlanSpec;
    const number = RECORDERS + n;
    const at = RECORDERS * RECORDER_BYTES + n * TUNNEL_BYTES;
    const tunnel = new VxlanPort({
      number,
      spec,
      trunk: parsed.trunk !== undefined,
      memory: this.#memory,
      scratch: at,
      remotesAt: at + SCRATCH_BYTES,
      scope: 2,
      senders: spec.group && { networks: [this.#ends.members], own: [this.#ends.own] },
      fabric: this.#forwarder,
      clock: this.#forwarder.macs,
      vtep: this.#vtep,
      dropped: (reason) => {
        this.#refused += 1;
        this.#forwarder.counters.dropped(number, reason);
      },
    });
    this.#tunnels[n] = tunnel;
    this.#forwarder.connect(number, tunnel, parsed);
    tunnel.open();
  }
}

function expectFrames(who: string, came: readonly Buffer[], sent: readonly Buffer[]): void {
  if (came.length !== sent.length) throw new Error(`${who} got ${came.length} of ${sent.length} frames`);
  for (const [n, frame] of sent.entries())
    if (came[n]?.equals(frame) !== true) throw new Error(`${who} got frame ${n} changed, or not in order`);
}
