/**
 * A virtio-net device with a user network (libslirp) behind it: switch, NIC and wire in one, for tests and measurements of
 * the whole interface. Frames are copied between the driver's buffers and slirp's, as the switch does.
 */
import type { Capability } from '#common/ipc/capability';
import { createGate, type ServerEnd } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { DeviceServer } from '#common/l4virtio/device_server';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { Pump } from '#common/shm/pump';
import type { Chain } from '#common/virtio/chain';
import { DEVICE_ID_NET } from '#common/virtio/config_page';
import type { DeviceQueue } from '#common/virtio/device_queue';
import { featureSet, NET_F_MAC } from '#common/virtio/features';
import { NET_HDR_SIZE, writePlainHeader } from '#common/virtio/net_header';
import type { FrameSink } from '../netif.ts';
import { type SlirpOptions, SlirpPort } from './slirp.ts';

const SIZE = 256;
const ARENA_BYTES = 2 ** 26;

/** One process's share of a run directory, as a task's environment has it. */
export function party(runDir: string, task: string) {
  const arena = new Arena(ARENA_BYTES);
  return {
    ipc: new Ipc({ runDir, task: task.repeat(32) }),
    arena,
    memories: new SharedMemories(runDir, arena),
    doorbells: new Doorbells(runDir),
  };
}

export class FarEnd implements FrameSink {
  readonly slirp: SlirpPort;
  readonly #runDir: string;
  readonly #mac: Uint8Array | undefined;
  readonly #host: ReturnType<typeof party>;
  readonly #gate: ServerEnd = createGate();
  #ipc: Ipc;
  #dying = false;
  #server: DeviceServer;
  readonly #pump: Pump;
  #rx: { queue: DeviceQueue; chain: Chain } | undefined;
  #tx: { queue: DeviceQueue; chain: Chain } | undefined;

  constructor(runDir: string, options: SlirpOptions & { readonly mac?: Uint8Array } = {}) {
    this.#runDir = runDir;
    this.#mac = options.mac;
    this.#host = party(runDir, 'e');
    this.#ipc = this.#host.ipc;
    this.slirp = new SlirpPort(this.#host.arena, options);
    this.#pump = new Pump({
      poll: () => this.#fromDriver(),
      arm: () => this.#tx?.queue.enableNotifications() ?? false,
      disarm: () => this.#tx?.queue.disableNotifications(),
    });
    this.#server = this.#newServer();
    this.slirp.start(this);
    this.#pump.start();
  }

  /** A capability for the device. */
  async serve(): Promise<Capability> {
    let cap: Capability | undefined;
    await this.#ipc.serve(this.#gate, (gate) => {
      cap = gate.export(this.#server.bindings, { id: 1 });
    });
    return cap as Capability;
  }

  /** As the server's death without a word, with all that it has not handled yet, and its next life. */
  async startAgain(): Promise<void> {
    this.#rx = this.#tx = undefined;
    this.#ipc.close();
    this.#server.close();
    this.#ipc = new Ipc({ runDir: this.#runDir, task: 'e'.repeat(32) });
    this.#server = this.#newServer();
    await this.serve();
  }

  /** The same, in the middle of the next driver's set-up. */
  startAgainDuringSetUp(): void {
    this.#dying = true;
  }

  /** False, and no answer at all, when the server is to die now. */
  #accepts(): boolean {
    if (!this.#dying) return true;
    this.#dying = false;
    this.#ipc.close();
    setImmediate(() => void this.startAgain());
    return false;
  }

  /** Receive buffers that the driver offers. */
  get offered(): number {
    return this.#rx?.queue.available() ?? 0;
  }

  #newServer(): DeviceServer {
    return new DeviceServer(this.#host, {
      deviceId: DEVICE_ID_NET,
      features: this.#mac ? featureSet(NET_F_MAC) : featureSet(),
      queues: [SIZE, SIZE],
      config: Uint8Array.of(...(this.#mac ?? new Uint8Array(6)), 0, 0, 0, 0),
      dsMax: 2,
      name: 'far end',
      onConfigured: () => this.#configured(),
      onReset: () => {
        this.#rx = this.#tx = undefined;
      },
      onKick: () => this.#pump.kick(),
      accepts: () => this.#accepts(),
    });
  }

  #configured(): void {
    const [rx, tx] = [this.#server.device.queue(0), this.#server.device.queue(1)];
    if (rx === undefined || tx === undefined) return;
    this.#rx = { queue: rx, chain: rx.newChain() };
    this.#tx = { queue: tx, chain: tx.newChain() };
    this.#pump.kick();
  }

  /** From slirp to the driver; without a buffer the frame is lost. */
  receive(index: number, offset: number, length: number): void {
    const rx = this.#rx;
    if (rx?.queue.pop(rx.chain)) {
      const at = rx.chain.where[0] as number;
      writePlainHeader(this.#host.arena, at, 0, 1);
      this.#host.arena.u8.copyWithin(at + NET_HDR_SIZE, offset, offset + length);
      rx.queue.push(rx.chain.head, NET_HDR_SIZE + length);
    }
    this.slirp.rxRelease(index);
  }

  /** Uses every receive buffer that the driver offers, for frames to nobody. */
  exhaust(): void {
    const rx = this.#rx;
    while (rx?.queue.pop(rx.chain)) {
      const at = rx.chain.where[0] as number;
      this.#host.arena.u8.fill(0, at, at + NET_HDR_SIZE + 60);
      rx.queue.push(rx.chain.head, NET_HDR_SIZE + 60);
    }
    this.endBatch();
  }

  endBatch(): void {
    if (this.#rx?.queue.flush()) this.#server.device.interrupt();
  }

  txRoom(): void {}
  rxLost(): void {}

  #fromDriver(): boolean {
    const tx = this.#tx;
    let any = false;
    while (tx?.queue.pop(tx.chain)) {
      any = true;
      const at = tx.chain.where[0] as number;
      const length = (tx.chain.len[0] as number) - NET_HDR_SIZE;
      this.#host.arena.u8.copyWithin(this.slirp.txSlot(), at + NET_HDR_SIZE, at + NET_HDR_SIZE + length);
      tx.queue.push(tx.chain.head, 0);
      this.slirp.txCommit(length);
    }
    if (any && tx?.queue.flush()) this.#server.device.interrupt();
    return any;
  }

  /** What a device does with a driver that broke a rule: it stops and asks for a reset. */
  fail(): void {
    this.#server.device.fail('the test wanted it');
  }

  close(): void {
    this.#pump.stop();
    this.slirp.close();
    this.#server.close();
    this.#ipc.close();
  }
}
