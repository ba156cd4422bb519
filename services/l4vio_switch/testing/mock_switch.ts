/** A switch without processes: its forwarder and scheduler, with mock clients in one memory, for tests. */
import { Memory } from '#common/memory';
import { Scheduler } from '#common/vnet/scheduler';
import {
  CLIENT_BYTES,
  type ClientOptions,
  MockClient,
  type MockFabric,
} from '#common/vnet/testing/mock_client';
import { Forwarder, type ForwardSpec } from '../forward.ts';
import { Log, type Sink } from '../log.ts';
import { MacTable } from '../mac_table.ts';

/** A log that keeps its lines. */
export function listLog(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  const sink: Sink = { out: (line) => lines.push(line), err: (line) => lines.push(line) };
  return { log: new Log(sink), lines };
}

export interface PortOptions extends ClientOptions {
  readonly vlan?: ForwardSpec;
}

/** Seconds after which a mock switch forgets addresses, and its time in milliseconds. */
export interface MockTime {
  readonly maxAge?: number;
  ms: number;
}

export function mockBytes(maxPorts: number): number {
  return (maxPorts + 2) * CLIENT_BYTES;
}

export class MockSwitch implements MockFabric {
  readonly memory: Memory;
  readonly forwarder: Forwarder;
  readonly scheduler: Scheduler;
  readonly clients: MockClient[] = [];
  readonly lines: string[];

  /** `memory`: at least `mockBytes(maxPorts)` bytes that nobody else uses. */
  constructor(maxPorts = 8, time?: MockTime, memory = new Memory(new ArrayBuffer(mockBytes(maxPorts)))) {
    const { log, lines } = listLog();
    this.lines = lines;
    this.memory = memory;
    const macs = new MacTable(1, time?.maxAge);
    this.forwarder = new Forwarder(maxPorts, log, { macs, ...(time && { clock: () => time.ms }) });
    this.scheduler = new Scheduler(this.forwarder);
  }

  add(options: PortOptions = {}): MockClient {
    return this.#add(this.clients.length, options);
  }

  addMonitor(options: PortOptions = {}): MockClient {
    return this.#add(this.forwarder.monitor, options);
  }

  get fabric(): Forwarder {
    return this.forwarder;
  }

  /** Kicks the client's port and lets the switch run until there is nothing to do. */
  run(...clients: MockClient[]): void {
    for (const client of clients) this.scheduler.activate(this.clients.indexOf(client));
    while (this.scheduler.poll());
  }

  #add(number: number, options: PortOptions): MockClient {
    const client = new MockClient(this, number, (number + 1) * CLIENT_BYTES, {
      ...options,
      mute: number === this.forwarder.monitor || options.vlan?.mirror !== undefined,
    });
    this.clients[number] = client;
    this.forwarder.connect(number, client.port, options.vlan ?? {});
    return client;
  }
}
