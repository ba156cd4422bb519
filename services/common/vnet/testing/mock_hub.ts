/** Ports on a hub: every frame goes to all others. For tests of ports without a switch; tags as each test wants them. */
import { Memory } from '#common/memory';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import { Fabric } from '../fabric.ts';
import { PortSet } from '../port_set.ts';
import type { SourceFrame } from '../source_frame.ts';
import { TAG_KEEP } from '../tag.ts';
import { CLIENT_BYTES, type ClientOptions, MockClient, type MockFabric } from './mock_client.ts';

export interface HubPort extends ClientOptions {
  /** What happens to the tag of frames to this port, and the tag to write. */
  readonly tag?: number;
  readonly tci?: number;
}

class Hub extends Fabric {
  readonly ports: HubPort[] = [];
  /** What `deliver` returned, in order: port and bytes or ~reason. */
  readonly delivered: [port: number, bytes: number][] = [];
  readonly refused: number[] = [];
  readonly losses: [port: number, reason: number][] = [];

  override forward(from: number, frame: SourceFrame): void {
    for (const [to, { tag = TAG_KEEP, tci = 0 }] of this.ports.entries()) {
      if (to === from) continue;
      const bytes = this.endpoint(to)?.deliver(frame, tag, tci) ?? 0;
      this.delivered.push([to, bytes]);
      this.touch(to);
    }
  }

  override refuse(_port: number, _frame: SourceFrame, reason: number): void {
    this.refused.push(reason);
  }

  override lost(port: number, reason: number): void {
    this.losses.push([port, reason]);
  }

  connect(client: MockClient, options: HubPort): void {
    this.endpoints[this.ports.length] = client.port;
    this.ports.push(options);
  }
}

export class MockHub implements MockFabric {
  readonly memory: Memory;
  readonly fabric: Hub;
  readonly #wanting: PortSet;
  readonly clients: MockClient[] = [];

  constructor(ports = 4) {
    this.memory = new Memory(new ArrayBuffer((ports + 1) * CLIENT_BYTES));
    this.fabric = new Hub(ports);
    this.#wanting = new PortSet(ports);
  }

  add(options: HubPort = {}): MockClient {
    const number = this.clients.length;
    const client = new MockClient(this, number, (number + 1) * CLIENT_BYTES, options);
    this.clients.push(client);
    this.fabric.connect(client, options);
    return client;
  }

  /** Handles what the client has sent, up to `budget` frames. Returns how many it were. */
  run(client: MockClient, budget = 128): number {
    const taken = client.port.handle(budget);
    this.fabric.publishTouched(this.#wanting);
    return taken;
  }
}

export interface Received {
  readonly header: Uint8Array;
  readonly frame: Uint8Array<ArrayBuffer>;
}

/** What a client has received, chains that hold one frame put together. */
export function receivedFrames(client: MockClient): Received[] {
  const chains = client.received();
  const frames: Received[] = [];
  for (let n = 0; n < chains.length; ) {
    const first = chains[n] as Uint8Array;
    const count = (first[10] as number) | ((first[11] as number) << 8);
    const bytes = chains.slice(n, n + count).flatMap((chain) => [...chain]);
    frames.push({
      header: Uint8Array.from(bytes.slice(0, NET_HDR_SIZE)),
      frame: Uint8Array.from(bytes.slice(NET_HDR_SIZE)),
    });
    n += count;
  }
  return frames;
}
