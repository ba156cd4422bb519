/** The network of a program: its interfaces, and what makes sockets on them. */
import type { AgentOptions } from 'node:http';
import { formatIpv4 } from '#common/wire/ipv4';
import { LwipAgent } from './agent.ts';
import type { ConnectOptions, SocketHost } from './connector.ts';
import type { DhcpClient } from './dhcp/client.ts';
import type { Netif } from './netif.ts';
import { lwipExchange } from './resolver/exchange.ts';
import { Resolver } from './resolver/resolver.ts';
import { Server } from './server.ts';
import { Socket, type SocketOptions } from './socket.ts';
import type { Stack } from './stack.ts';
import { UdpSocket } from './udp.ts';

export interface NetworkParts {
  readonly stack: Stack;
  readonly netifs: readonly Netif[];
  readonly dhcp: readonly DhcpClient[];
  readonly readEtc: (name: 'resolv.conf' | 'hosts') => Promise<string | undefined>;
  readonly log: (line: string) => void;
  /** Gives the devices back. */
  readonly closePorts: () => Promise<void>;
}

/** How long `close` waits for FINs and the last data to be acknowledged. */
const LINGER_MS = 250;
const LINGER_STEP_MS = 5;

export class Network implements SocketHost {
  readonly stack: Stack;
  readonly netifs: readonly Netif[];
  readonly resolver: Resolver;
  readonly #parts: NetworkParts;
  #closed = false;

  constructor(parts: NetworkParts) {
    this.#parts = parts;
    this.stack = parts.stack;
    this.netifs = parts.netifs;
    this.resolver = new Resolver({
      readEtc: parts.readEtc,
      dhcpServers: () => parts.dhcp.flatMap(({ lease }) => (lease?.dns ?? []).map(formatIpv4)),
      exchange: lwipExchange(this),
      log: parts.log,
    });
  }

  /** For `net.connect`-like `lookup` options. */
  get lookup(): Resolver['lookup'] {
    return this.resolver.lookup;
  }

  /** Interfaces in the order of their capabilities. */
  get interfaces(): readonly Netif[] {
    return this.netifs;
  }

  /** A socket that is not connected yet. */
  socket(options?: SocketOptions): Socket {
    return new Socket(this, options);
  }

  /** As `net.connect`. */
  connect(options: ConnectOptions & SocketOptions, onConnect?: () => void): Socket {
    return new Socket(this, options).connect(options, onConnect);
  }

  /** As `net.createServer`. */
  createServer(options?: SocketOptions, onConnection?: (socket: Socket) => void): Server {
    return new Server(this, options, onConnection);
  }

  /** As `dgram.createSocket`. */
  udp(): UdpSocket {
    return new UdpSocket(this);
  }

  /** An agent for `http.request({ agent })`. */
  agent(options?: AgentOptions): LwipAgent {
    return new LwipAgent(this, options);
  }

  /**
   * At the end of the program: waits up to 250 ms until what was sent is acknowledged, releases DHCP leases, takes
   * the interfaces out and gives the devices back.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (let left = LINGER_MS; left > 0 && this.stack.timers.hasConnections; left -= LINGER_STEP_MS) {
      await new Promise((resolve) => setTimeout(resolve, LINGER_STEP_MS));
    }
    for (const client of this.#parts.dhcp) client.close();
    for (const netif of [...this.netifs]) netif.close();
    this.stack.timers.stop();
    await this.#parts.closePorts();
  }
}
