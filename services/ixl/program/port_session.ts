/**
 * The program's half of its switch port: the virtio handshake, the pump, and starting anew when the
 * switch asks for a reset or breaks the ring protocol.
 *
 * Two memories are registered, as many as a port allows by default (ds-max): the packet buffers
 * themselves and the rings. They stay registered over a reset.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Capability } from '#common/ipc/capability';
import { type L4Error, toL4Error } from '#common/ipc/errors';
import { DEVICE_CLOSED, type DeviceMemory, DriverClient } from '#common/l4virtio/driver_client';
import { Pump } from '#common/shm/pump';
import type { TaskEnv } from '#common/task/env';
import { F_EVENT_IDX, featureSet, NET_F_MAC } from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { type Clock, systemClock } from '../clock.ts';
import type { IxlDevice } from '../device.ts';
import type { Log } from '../log.ts';
import { deviceGone, isFinal, portGone } from './errors.ts';
import { Forwarder, type ForwarderCounters } from './forwarder.ts';

const FROM_SWITCH = 0;
const TO_SWITCH = 1;
/** Entries of each queue at most: what the NIC's own rings have. */
const QUEUE_SIZE = 256;
const WANTED = featureSet(NET_F_MAC, F_EVENT_IDX);
/** Within this time after the end of switch or machine we would be told to end as well, if the lab ends. */
const LAB_END_MS = 300;
/** A switch that needs this many resets one after the other will need the next one, too. */
const MAX_RESETS = 10;
/** After so long without a reset the earlier ones are forgotten. */
const STABLE_MS = 60_000;
const RESET_PAUSE_MS = 100;

interface Connection {
  readonly client: DriverClient;
  readonly rings: DeviceMemory;
  readonly packets: DeviceMemory;
  readonly sizes: readonly [number, number];
}

interface Running {
  readonly forwarder: Forwarder;
  readonly pump: Pump;
}

export class PortSession {
  /** Frames of all connections that have ended. */
  readonly counters: ForwarderCounters = { received: 0, sent: 0, dropped: 0 };
  readonly #env: TaskEnv;
  readonly #port: Capability;
  readonly #nic: IxlDevice;
  readonly #log: Log;
  readonly #clock: Clock;
  #running: Running | undefined;
  /** Ends the queues' current start with a reason; undefined: the task is to end. */
  #end: (reason: L4Error | undefined) => void = () => {};

  constructor(env: TaskEnv, port: Capability, nic: IxlDevice, log: Log, clock: Clock = systemClock) {
    this.#env = env;
    this.#port = port;
    this.#nic = nic;
    this.#log = log;
    this.#clock = clock;
  }

  /** Serves the port until the task is to end. Rejects with L4Error when switch or machine are gone, or hopeless. */
  async run(): Promise<void> {
    try {
      await this.#runUntilEnd();
    } catch (err) {
      // A call that was abandoned because the task is to end is no failure.
      if (!this.#env.signal.aborted) throw err;
    }
  }

  async #runUntilEnd(): Promise<void> {
    const { signal } = this.#env;
    if (signal.aborted) return;
    const connection = await this.#connect();
    void this.#nic.whenGone().then(() => this.#endSoon(deviceGone()));
    const onAbort = (): void => this.#end(undefined);
    signal.addEventListener('abort', onAbort);
    this.#nic.rebindRecvIrq(0, this.#kick);
    try {
      await this.#serve(connection);
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#running?.pump.stop();
      await connection.client.close();
      this.#takeBack();
    }
  }

  /** Runs the queues, and again after each reset. */
  async #serve(connection: Connection): Promise<void> {
    for (let resets = 0; ; resets++) {
      const started = this.#clock.now();
      const reason = await this.#runOnce(connection);
      if (!reason) return;
      if (this.#clock.now() - started >= STABLE_MS) resets = 0;
      if (isFinal(reason) || resets === MAX_RESETS) throw reason;
      this.#log.warn(`Starting the port anew: ${reason.message}`);
      await this.#clock.sleep(RESET_PAUSE_MS);
      await connection.client.reset();
      // Only now the switch does not touch them any more.
      this.#takeBack();
    }
  }

  async #connect(): Promise<Connection> {
    const client = await DriverClient.open(this.#env, this.#port, {
      name: 'port',
      signal: this.#env.signal,
      onInterrupt: this.#kick,
      onNeedsReset: (error) => this.#end(error),
      onGone: (error) => void this.#onPortGone(error),
    });
    try {
      const sizes = [
        client.queueSize(FROM_SWITCH, QUEUE_SIZE),
        client.queueSize(TO_SWITCH, QUEUE_SIZE),
      ] as const;
      const rings = await client.allocate(queueBytes(sizes[0]) + queueBytes(sizes[1]));
      const packets = await client.register(this.#nic.memory);
      return { client, rings, packets, sizes };
    } catch (err) {
      await client.close();
      throw err;
    }
  }

  /** One start of the queues: resolves with the error that asks for the next one; undefined: the task is to end. */
  async #runOnce({ client, rings, packets, sizes }: Connection): Promise<L4Error | undefined> {
    const ended = new Promise<L4Error | undefined>((resolve) => {
      this.#end = resolve;
    });
    // What went before the line above has told nobody.
    if (this.#nic.isGone()) this.#end(deviceGone());
    try {
      await client.configureQueue(FROM_SWITCH, rings, 0, sizes[0]);
      await client.configureQueue(TO_SWITCH, rings, queueBytes(sizes[0]), sizes[1]);
      await client.start(WANTED);
    } catch (err) {
      // A switch may ask for a reset in the middle of a start, too.
      return this.#env.signal.aborted ? undefined : toL4Error(err);
    }
    if (this.#env.signal.aborted) return undefined;
    const forwarder = new Forwarder({
      device: this.#nic,
      memory: this.#env.arena,
      fromSwitch: client.queue(FROM_SWITCH),
      toSwitch: client.queue(TO_SWITCH),
      addressOffset: packets.address - packets.where,
      notify: () => client.notify(),
      kick: this.#kick,
      onBroken: (error) => this.#end(toL4Error(error)),
    });
    const pump = new Pump(forwarder);
    this.#running = { forwarder, pump };
    pump.start();
    const reason = await ended;
    pump.stop();
    return reason;
  }

  readonly #kick = (): void => this.#running?.pump.kick();

  /** Takes the buffers back that were with the switch, which has reset its queues or is gone. */
  #takeBack(): void {
    const running = this.#running;
    if (!running) return;
    running.forwarder.stop();
    this.#running = undefined;
    const { received, sent, dropped } = running.forwarder.counters;
    this.counters.received += received;
    this.counters.sent += sent;
    this.counters.dropped += dropped;
  }

  async #onPortGone(error: L4Error): Promise<void> {
    if (error.code === DEVICE_CLOSED) return this.#end(undefined);
    await this.#endSoon(portGone(error));
  }

  /** A peer has ended: maybe with the whole lab, and then it is our turn in a moment. */
  async #endSoon(reason: L4Error): Promise<void> {
    await sleep(LAB_END_MS, undefined, { signal: this.#env.signal }).catch(() => {});
    this.#end(this.#env.signal.aborted ? undefined : reason);
  }
}
