import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { emitEthernet } from '#common/wire/ethernet';
import type { FramePort, FrameSink } from './netif.ts';
import { VlanPort } from './vlan_port.ts';

const [A, B] = [Uint8Array.of(2, 0, 0, 0, 0, 0xa), Uint8Array.of(2, 0, 0, 0, 0, 0xb)];
const SLOT = 2048;

/** The port behind: one transmit slot, receive buffers that are given to the sink by hand. */
class Behind implements FramePort {
  readonly mac = A;
  readonly mtu = 1500;
  readonly rxBuffers = 4;
  readonly memory = new Memory(new ArrayBuffer(2 * SLOT).slice(0));
  sent: number[][] = [];
  released: number[] = [];
  full = false;
  sink: FrameSink | undefined;

  start(sink: FrameSink): void {
    this.sink = sink;
  }
  txSlot(): number {
    return this.full ? -1 : SLOT;
  }
  txCommit(length: number): void {
    this.sent.push([...this.memory.u8.subarray(SLOT, SLOT + length)]);
  }
  flush(): void {}
  rxRelease(index: number): void {
    this.released.push(index);
  }
  close(): void {}

  receive(index: number, frame: readonly number[]): void {
    this.memory.u8.fill(0xa5).set(frame);
    this.sink?.receive(index, 0, frame.length);
  }
}

function make() {
  const behind = new Behind();
  const port = new VlanPort(behind, behind.memory, 0x123);
  const received: { index: number; frame: number[] }[] = [];
  port.start({
    receive: (index, offset, length) =>
      received.push({ index, frame: [...behind.memory.u8.subarray(offset, offset + length)] }),
    endBatch: () => {},
    txRoom: () => {},
    rxLost: () => {},
  });
  return { behind, port, received };
}

const tag = (tci: number) => [0x81, 0x00, tci >>> 8, tci & 0xff];
const REST = [0x08, 0x00, 1, 2, 3, 4];

describe('VlanPort', () => {
  it('sends frames with its tag behind the addresses', () => {
    const { behind, port } = make();
    const slot = port.txSlot();
    const { u8 } = behind.memory;
    u8.set(REST.slice(2), emitEthernet(u8, slot, B, A, 0x0800));
    port.txCommit(18);
    expect(behind.sent).toEqual([[...B, ...A, ...tag(0x123), ...REST]]);
  });

  it('has no slot when the port behind has none', () => {
    const { behind, port } = make();
    behind.full = true;
    expect(port.txSlot()).toBe(-1);
  });

  it('takes the tag off what comes, whatever its priority', () => {
    const { behind, received } = make();
    behind.receive(1, [...A, ...B, ...tag(0xe123), ...REST]);
    expect(received).toEqual([{ index: 1, frame: [...A, ...B, ...REST] }]);
    expect(behind.released).toEqual([]);
  });

  it.each([
    ['untagged', [...A, ...B, ...REST]],
    ['of another VLAN', [...A, ...B, ...tag(0x124), ...REST]],
    ['tagged with priority only', [...A, ...B, ...tag(0xe000), ...REST]],
    ['cut off in its tag', [...A, ...B, ...tag(0x123)]],
    ['a runt', [1]],
  ])('gives back what is %s', (_what, frame) => {
    const { behind, received } = make();
    behind.receive(2, frame);
    expect([received, behind.released]).toEqual([[], [2]]);
  });
});
