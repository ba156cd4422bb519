/**
 * A port whose other side is the same network in other switches: frames in UDP datagrams [RFC 7348].
 *
 * Which remote a station is behind is learned from what arrives; a frame for everybody, or for a station that is not
 * known yet, goes to each remote, or to their group. What came from one remote is never sent to another (the switch does
 * not send a frame back to the port that it came from), so the remotes must all know one another. What comes from anybody
 * else is not believed: who can reach us could put frames into the network otherwise (§7). Inner VLAN tags pass on trunk
 * ports only (§6.1).
 */
import { DROP } from '#common/capture/drop_reasons';
import type { Memory } from '#common/memory';
import type { IpAddress } from '#common/udp/address';
import { type Datagrams, SLOT_BYTES } from '#common/udp/socket';
import type { Endpoint } from '#common/vnet/endpoint';
import type { Fabric } from '#common/vnet/fabric';
import { FRAME_TSO } from '#common/vnet/offload';
import { copyPlain, copySegment } from '#common/vnet/plain_frame';
import { Segmenter } from '#common/vnet/segmenter';
import { SourceFrame } from '#common/vnet/source_frame';
import { growth, TAG_KEEP, TAG_OFFSET, TAG_REMOVE, TPID_LE } from '#common/vnet/tag';
import { ETH } from '#common/wire/ethernet';
import { keyHi, MacTable } from '../mac_table.ts';
import { VXLAN_HEADER, writeHeader } from './header.ts';
import { Remotes, type Senders, STRANGER } from './remotes.ts';
import type { VxlanSpec } from './spec.ts';
import type { TunnelPort, Vtep } from './vtep.ts';

const UNTAGGED = 0xffff;
const NOBODY = -1;
/** In place of a reason of DROP. */
const ACCEPTED = -1;
/** Longest inner frame. */
const ROOM = SLOT_BYTES - VXLAN_HEADER;
/** Where the segmenter's scratch begins, behind that of the source frame. */
const SEGMENTER_AT = 16;

export interface VxlanPortOptions {
  readonly number: number;
  readonly spec: VxlanSpec;
  /** May inner frames have a VLAN tag? */
  readonly trunk: boolean;
  readonly memory: Memory;
  /** Offset of SCRATCH_BYTES bytes of private memory, 8-byte aligned. */
  readonly scratch: number;
  /** Offset of REMOTES_BYTES bytes. */
  readonly remotesAt: number;
  /** Number of the interface, 0: any. */
  readonly scope: number;
  /** Who may be learned; with a group. */
  readonly senders?: Senders | undefined;
  readonly fabric: Fabric;
  /** Where it is known how old addresses are. */
  readonly clock?: Pick<MacTable, 'maxAge' | 'now'>;
  readonly vtep: Vtep;
  dropped(reason: number): void;
}

export class VxlanPort implements Endpoint, TunnelPort {
  readonly number: number;
  readonly vni: number;
  readonly group: IpAddress | undefined;
  readonly remotes: Remotes;
  /** Which remote a station is behind. */
  stations: MacTable;
  readonly #options: VxlanPortOptions;
  readonly #frame: SourceFrame;
  readonly #segmenter: Segmenter;
  readonly #piece = { count: 1, where: new Int32Array(1), len: new Int32Array(1) };

  constructor(options: VxlanPortOptions) {
    this.number = options.number;
    this.vni = options.spec.vni;
    this.group = options.spec.group?.address;
    this.#options = options;
    const { memory, scratch, spec, remotesAt: at, scope, senders } = options;
    this.stations = this.#newStations();
    const onReplaced = (slot: number) => this.stations.flush(slot);
    this.remotes = new Remotes({ memory, at, spec, scope, senders, onReplaced });
    this.#frame = new SourceFrame(memory, scratch);
    this.#segmenter = new Segmenter(memory, scratch + SEGMENTER_AT);
  }

  /** From now on frames arrive. Throws SocketError: the group cannot be joined. */
  open(): void {
    this.#options.vtep.add(this);
  }

  close(): void {
    this.#options.vtep.remove(this);
  }

  /** Forgets where stations are. */
  forget(): void {
    this.stations = this.#newStations();
  }

  handle(budget: number): number {
    return this.#options.vtep.receive(this, budget);
  }

  deliver(frame: SourceFrame, tag: number, tci: number): number {
    const { trunk, vtep, memory } = this.#options;
    const vlan = vlanOf(frame, tag, tci);
    if (vlan !== UNTAGGED && !trunk) return ~DROP.VLAN;
    this.#readClock();
    const known = frame.multicast ? NOBODY : this.stations.lookup(frame.dstLo, keyHi(frame.dstHi, vlan));
    if (frame.kind === FRAME_TSO) return this.#deliverSegments(frame, tag, tci, known);
    const length = frame.length + growth(tag);
    if (length > ROOM) return ~DROP.TOO_LONG;
    if (length < ETH.HEADER) return ~DROP.TOO_SHORT;
    const sender = vtep.sender(flowHash(frame));
    const slot = sender.slot();
    copyPlain(memory, frame, slot + VXLAN_HEADER, tag, tci);
    return this.#send(sender, slot, length, known);
  }

  publish(): boolean {
    this.#options.vtep.flush(this.#options.dropped);
    return false;
  }

  interrupt(): void {
    // `publish` never asks for one.
  }

  enableNotifications(): boolean {
    // The watch is level-triggered: what has come already wakes us.
    this.#options.vtep.listen(this);
    return false;
  }

  disableNotifications(): void {
    this.#options.vtep.unlisten(this);
  }

  /** The datagrams of a frame that its sender left to segment. Returns the bytes of all segments. */
  #deliverSegments(frame: SourceFrame, tag: number, tci: number, known: number): number {
    const { vtep, memory, fabric } = this.#options;
    const segmenter = this.#segmenter;
    segmenter.begin(frame, tag, tci, false);
    if (segmenter.headerBytes + frame.offload.gsoSize > ROOM) return ~DROP.TOO_LONG;
    const sender = vtep.sender(flowHash(frame));
    let bytes = 0;
    while (segmenter.next()) {
      fabric.work += 1;
      const slot = sender.slot();
      const length = copySegment(memory, frame, segmenter, slot + VXLAN_HEADER);
      const sent = this.#send(sender, slot, length, known);
      if (sent < 0) return sent;
      bytes += sent;
    }
    return bytes;
  }

  /** Queues the inner frame of `length` bytes in `slot` for the remote `known`, or for all. Returns `length`, or `~reason`. */
  #send(sender: Datagrams, slot: number, length: number, known: number): number {
    const { remotes } = this;
    // A second tag behind the one that was taken off, or one that the sender has written since its frame was looked at.
    if (!this.#options.trunk && this.#isTagged(slot + VXLAN_HEADER)) return ~DROP.VLAN;
    const bytes = length + VXLAN_HEADER;
    writeHeader(this.#options.memory, slot, this.vni);
    if (known !== NOBODY) sender.send(slot, bytes, remotes.offset(known));
    else for (let n = 0; n < remotes.flood; n++) sender.send(slot, bytes, remotes.offset(n));
    return length;
  }

  /** Of a frame in our memory. */
  #isTagged(frame: number): boolean {
    return this.#options.memory.view.getUint16(frame + TAG_OFFSET, true) === TPID_LE;
  }

  arrived(offset: number, length: number, sender: number): void {
    const remote = this.remotes.slotOf(sender, this.#options.vtep.now);
    const reason = remote === STRANGER ? DROP.FILTER : this.#load(offset, length);
    if (reason >= 0) {
      this.#options.dropped(reason);
      return;
    }
    this.#options.fabric.forward(this.number, this.#frame);
    this.#learn(this.#frame, remote);
  }

  /** Why the inner frame is not taken, or ACCEPTED. */
  #load(offset: number, length: number): number {
    if (length < 0) return DROP.TOO_LONG;
    if (length < ETH.HEADER) return DROP.TOO_SHORT;
    this.#piece.where[0] = offset;
    this.#piece.len[0] = length;
    if (!this.#frame.loadBare(this.#piece)) return DROP.MALFORMED;
    return this.#frame.tagged && !this.#options.trunk ? DROP.VLAN : ACCEPTED;
  }

  /** A group address is nobody's place. */
  #learn(frame: SourceFrame, remote: number): void {
    if ((frame.srcHi & 1) === 1) return;
    this.#readClock();
    const vlan = frame.tagged ? frame.vlan : UNTAGGED;
    this.stations.learn(frame.srcLo, keyHi(frame.srcHi, vlan), remote);
  }

  /** The forwarder has read the clock for the frames that came at once, if addresses grow old at all. */
  #readClock(): void {
    const { clock } = this.#options;
    if (clock !== undefined) this.stations.setTime(clock.now);
  }

  #newStations(): MacTable {
    return new MacTable(undefined, this.#options.clock?.maxAge);
  }
}

/** The VLAN id that the frame has when it leaves, or UNTAGGED. */
function vlanOf(frame: SourceFrame, tag: number, tci: number): number {
  if (tag === TAG_REMOVE || (tag === TAG_KEEP && !frame.tagged)) return UNTAGGED;
  return (tag === TAG_KEEP ? frame.tci : tci) & 0xfff;
}

/** The same for all frames between two stations. */
function flowHash({ srcLo, dstLo }: SourceFrame): number {
  const mixed = Math.imul(srcLo ^ dstLo, 0x9e37_79b1);
  return (mixed >>> 16) ^ (mixed >>> 8);
}
