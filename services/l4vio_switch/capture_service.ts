/**
 * A capture for a command of the user: its ring, its doorbell, and its end.
 *
 * The reader is no task of the lab, so nobody announces its end; it holds a FIFO open (common/shm/lifeline.ts), which the
 * kernel closes with it. The ring is ours and goes with the capture; the FIFO and the doorbell lose their names here.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ringBytes } from '#common/capture/ring';
import { RingWriter } from '#common/capture/ring_writer';
import { L4Error } from '#common/ipc/errors';
import type { Memory } from '#common/memory';
import type { SharedMemories } from '#common/shm/dataspace';
import type { Bell, Doorbells } from '#common/shm/doorbell';
import { LifelineWatch } from '#common/shm/lifeline';
import { MAX_FRAME } from '#common/vnet/source_frame';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Captures } from './capture.ts';
import { findPort } from './control_port_names.ts';
import { MAX_PORTS } from './options.ts';
import type { PortList } from './port_list.ts';

/** Bytes of a ring: 5 ms of a core that does nothing but copy. */
const CAPACITY = 8 * 2 ** 20;
/** A capture that keeps fewer bytes of a frame shows no header. */
const MIN_SNAP = 14;
/** Captures at a time: each takes memory of /dev/shm. */
const MAX_CAPTURES = 32;

export interface CaptureEnv {
  readonly arena: Memory;
  readonly memories: Pick<SharedMemories, 'create'>;
  readonly doorbells: Pick<Doorbells, 'open'>;
  readonly runDir: string;
}

/** Begins a capture. Throws L4Error: ENOENT (no such port), EINVAL, ENOMEM (/dev/shm is full, too many). */
export function openCapture(
  env: CaptureEnv,
  captures: Captures,
  ports: PortList,
  request: m.CaptureRequest,
): m.ICaptureReply {
  if (request.ports.length > MAX_PORTS + 1) {
    throw new L4Error(
      'EINVAL',
      `Cannot capture as at most ${MAX_PORTS + 1} ports can be named: current value is ${request.ports.length}`,
    );
  }
  const chosen = [...new Set(request.ports.map((name) => findPort(ports, name)))];
  if (chosen.length === 0) throw new L4Error('EINVAL', 'Cannot capture as no port is named');
  if (captures.size >= MAX_CAPTURES) {
    throw new L4Error('ENOMEM', `Cannot capture as ${MAX_CAPTURES} captures are under way: end one of them`);
  }
  const snapLength = snapOf(request.snapLength);
  const bell = env.doorbells.open(request.doorbell);
  // Open at both ends it needs no name, and nobody has to remove it whoever dies first.
  rmSync(join(env.runDir, 'b', request.doorbell), { force: true });
  try {
    const ring = env.memories.create(ringBytes(chosen.length, CAPACITY));
    let stop = () => {};
    let lifeline: LifelineWatch | undefined;
    const end = () => {
      stop();
      lifeline?.close();
      ring.close();
      bell.close();
    };
    try {
      lifeline = new LifelineWatch(env.runDir, request.lifeline, end);
    } catch (cause) {
      ring.close();
      throw new L4Error('EINVAL', 'Cannot capture as the reader is not there', { cause });
    }
    const writer = new RingWriter(env.arena, ring.offset, chosen.length, CAPACITY, onceATurn(bell));
    // The reader goes on with what is in the ring; its own end ends the rest.
    stop = captures.start({
      ports: chosen.map(({ number }) => number),
      snapLength,
      writer,
      onEnded: () => {},
    });
    lifeline.check();
    return { ring: { ...ring.ref }, names: chosen.map(({ name }) => name) };
  } catch (err) {
    bell.close();
    throw err;
  }
}

/** Rings when the switch's turn is over: a reader that says all the time that it sleeps costs no call per frame. */
function onceATurn(bell: Pick<Bell, 'ring'>): () => void {
  let due = false;
  const ring = () => {
    due = false;
    bell.ring();
  };
  return () => {
    if (due) return;
    due = true;
    queueMicrotask(ring);
  };
}

function snapOf(length: number): number {
  if (length === 0) return MAX_FRAME;
  if (length >= MIN_SNAP) return Math.min(length, MAX_FRAME);
  throw new L4Error(
    'EINVAL',
    `Cannot capture as at least ${MIN_SNAP} bytes of a frame must be kept: current value is ${length}`,
  );
}
