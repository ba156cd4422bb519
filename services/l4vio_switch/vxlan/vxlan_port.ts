/**
 * A port whose other side is the same network in other switches: frames in UDP datagrams [RFC 7348].
 *
 * Which remote a station is behind is learned from what arrives; a frame for everybody, or for a station that is not
 * known yet, goes to each remote. What came from one remote is never sent to another (the switch does not send a frame
 * back to the port that it came from), so the remotes must all know one another. Inner VLAN tags pass on trunk ports
 * only (§6.1).
 */
import { DROP } from '#common/capture/drop_reasons';
import type { Arena } from '#common/shm/arena';
import { SLOT_BYTES, type UdpSocket } from '#common/udp/socket';
import type { Endpoint } from '#common/vnet/endpoint';
import type { Fabric } from '#common/vnet/fabric';
import { FRAME_TSO } from '#common/vnet/offload';
import { copyPlain, copySegment } from '#common/vnet/plain_frame';
import { Segmenter } from '#common/vnet/segmenter';
import { SourceFrame } from '#common/vnet/source_frame';
import { growth, TAG_KEEP, TAG_REMOVE } from '#common/vnet/tag';
import { keyHi, MacTable } from '../mac_table.ts';
import { VXLAN_HEADER, writeHeader } from './header.ts';
import type { VxlanSpec } from './spec.ts';
import type { TunnelPort, Vtep } from './vtep.ts';

const UNTAGGED = 0xffff;
const NOBODY = -1;
/** Longest inner frame. */
const ROOM = SLOT_BYTES - VXLAN_HEADER;
/** Where the segmenter's scratch begins, behind that of the source frame. */
const SEGMENTER_AT = 16;

export interface VxlanPortOptions {
  readonly number: number;
  readonly spec: VxlanSpec;
  /** May inner frames have a VLAN tag? */
  readonly trunk: boolean;
  readonly arena: Arena;
  /** Offset of SCRATCH_BYTES bytes of private memory, 8-byte aligned. */
  readonly scratch: number;
  readonly fabric: Fabric;
  readonly vtep: Vtep;
  dropped(reason: number): void;
}

export class VxlanPort implements Endpoint, TunnelPort {
  readonly number: number;
  readonly vni: number;
  /** Which remote a station is behind. */
  readonly stations = new MacTable();
  readonly #options: VxlanPortOptions;
  readonly #remotes: Map<number, number>;
  readonly #frame: SourceFrame;
  readonly #segmenter: Segmenter;
  readonly #piece = { count: 1, where: new Int32Array(1), len: new Int32Array(1) };

  constructor(options: VxlanPortOptions) {
    this.number = options.number;
    this.vni = options.spec.vni;
    this.#options = options;
    this.#remotes = new Map(options.spec.remotes.map(({ address }, n) => [address, n]));
    this.#frame = new SourceFrame(options.arena, options.scratch);
    this.#segmenter = new Segmenter(options.arena, options.scratch + SEGMENTER_AT);
  }

  /** From now on frames arrive. */
  open(): void {
    this.#options.vtep.add(this);
  }

  close(): void {
    this.#options.vtep.remove(this);
  }

  handle(budget: number): number {
    return this.#options.vtep.receive(this, budget);
  }

  deliver(frame: SourceFrame, tag: number, tci: number): number {
    const { trunk, vtep, arena } = this.#options;
    const vlan = vlanOf(frame, tag, tci);
    if (vlan !== UNTAGGED && !trunk) return ~DROP.VLAN;
    const known = frame.multicast ? NOBODY : this.stations.lookup(frame.dstLo, keyHi(frame.dstHi, vlan));
    if (frame.kind === FRAME_TSO) return this.#deliverSegments(frame, tag, tci, known);
    if (frame.length + growth(tag) > ROOM) return ~DROP.TOO_LONG;
    const sender = vtep.sender(flowHash(frame));
    const slot = sender.slot();
    return this.#send(sender, slot, copyPlain(arena, frame, slot + VXLAN_HEADER, tag, tci), known);
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
    const { vtep, arena, fabric } = this.#options;
    const segmenter = this.#segmenter;
    segmenter.begin(frame, tag, tci, false);
    if (segmenter.headerBytes + frame.offload.gsoSize > ROOM) return ~DROP.TOO_LONG;
    const sender = vtep.sender(flowHash(frame));
    let bytes = 0;
    while (segmenter.next()) {
      fabric.work += 1;
      const slot = sender.slot();
      bytes += this.#send(sender, slot, copySegment(arena, frame, segmenter, slot + VXLAN_HEADER), known);
    }
    return bytes;
  }

  /** Queues the inner frame of `length` bytes in `slot` for the remote `known`, or for all. Returns `length`. */
  #send(sender: UdpSocket, slot: number, length: number, known: number): number {
    const { remotes } = this.#options.spec;
    writeHeader(this.#options.arena, slot, this.vni);
    for (let n = 0; n < remotes.length; n++) {
      if (known !== NOBODY && known !== n) continue;
      const remote = remotes[n];
      if (remote) sender.send(slot, length + VXLAN_HEADER, remote.address, remote.port);
    }
    return length;
  }

  remoteOf(address: number): number {
    return this.#remotes.get(address) ?? NOBODY;
  }

  dropped(reason: number): void {
    this.#options.dropped(reason);
  }

  arrived(offset: number, length: number, remote: number): void {
    const frame = this.#frame;
    this.#piece.where[0] = offset;
    this.#piece.len[0] = length;
    if (!frame.loadBare(this.#piece)) this.dropped(DROP.MALFORMED);
    else if (frame.tagged && !this.#options.trunk) this.dropped(DROP.VLAN);
    else {
      const vlan = frame.tagged ? frame.vlan : UNTAGGED;
      // A group address is nobody's place.
      if ((frame.srcHi & 1) === 0) this.stations.learn(frame.srcLo, keyHi(frame.srcHi, vlan), remote);
      this.#options.fabric.forward(this.number, frame);
    }
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
