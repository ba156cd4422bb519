/**
 * Gets a socket connected: looks the name up, tries its addresses one behind the other, and says why none worked.
 *
 * lwIP reports an unknown neighbour as silence: its MAC address is asked for first, and when it is not there after three seconds, as
 * long as Linux tries, that is EHOSTUNREACH.
 */
import type { LookupFunction } from 'node:net';
import { formatIpv4 } from '#common/wire/ipv4';
import { type IpAddress, isPort, parseIp } from './address.ts';
import { Connection, type ConnectionEvents } from './connection.ts';
import { codeOf, ERR, endpointText, NetError, type NetErrorCode } from './errors.ts';
import type { Netif } from './netif.ts';
import { type Route, routeTo } from './routes.ts';
import type { Stack } from './stack.ts';

/** What sockets need to know of the network they belong to. */
export interface SocketHost {
  readonly stack: Stack;
  readonly netifs: readonly Netif[];
  /** Name look-up as `net.connect` wants it; IPv4 addresses first. */
  readonly lookup: LookupFunction;
}

export interface ConnectOptions {
  readonly host?: string;
  readonly port: number;
  readonly localAddress?: string;
  readonly localPort?: number;
  /** 4, 6 or 0 for either. */
  readonly family?: number;
  readonly lookup?: LookupFunction;
  /** As `Socket.setTimeout`. */
  readonly timeout?: number;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
}

/** What the socket is told. */
export interface ConnectorEvents {
  /** As the event 'lookup' of `net.Socket`. */
  looked(err: Error | null, address: string | undefined, family: number | undefined, host: string): void;
  connected(connection: Connection): void;
  failed(err: Error): void;
}

interface Candidate {
  readonly text: string;
  readonly ip: IpAddress;
}

const ARP_WAIT_MS = 3000;

export class Connector {
  readonly #host: SocketHost;
  readonly #options: ConnectOptions;
  /** Of the connection once it is there. */
  readonly #stream: ConnectionEvents;
  readonly #events: ConnectorEvents;
  #connection: Connection | undefined;
  #stopAsking = (): void => {};
  #over = false;

  /** Throws RangeError unless the port is 1..65535 and the local one 0..65535. */
  constructor(host: SocketHost, options: ConnectOptions, stream: ConnectionEvents, events: ConnectorEvents) {
    const { port, localPort = 0 } = options;
    if (!isPort(port, 1))
      throw new RangeError(`Cannot connect as port must be 1..65535: current value is ${port}`);
    if (!isPort(localPort, 0))
      throw new RangeError(`Cannot connect as localPort must be 0..65535: current value is ${localPort}`);
    this.#host = host;
    this.#options = options;
    this.#stream = stream;
    this.#events = events;
  }

  start(): void {
    const host = this.#options.host ?? 'localhost';
    const ip = parseIp(host, (name) => this.#host.netifs.find((netif) => netif.name === name)?.index ?? 0);
    if (ip !== undefined) {
      process.nextTick(() => this.#tryNext([{ text: host, ip }]));
      return;
    }
    const lookup = this.#options.lookup ?? this.#host.lookup;
    lookup(host, { all: true, family: this.#options.family ?? 0 }, (err, found, family) => {
      if (this.#over) return;
      if (err) {
        this.#events.looked(err, undefined, undefined, host);
        this.#fail(err);
        return;
      }
      const list = Array.isArray(found) ? found : [{ address: found, family: family ?? 4 }];
      for (const each of list) this.#events.looked(null, each.address, each.family, host);
      this.#tryNext(
        list.flatMap(({ address }) => {
          const ip = parseIp(address);
          return ip === undefined ? [] : [{ text: address, ip }];
        }),
      );
    });
  }

  /** Gives up; nothing is told any more. */
  cancel(): void {
    this.#over = true;
    this.#stopAsking();
    this.#connection?.abort();
  }

  /** The last address's error is the connector's. */
  #tryNext(candidates: readonly Candidate[], last?: NetError): void {
    if (this.#over) return;
    const [first, ...rest] = candidates;
    if (first === undefined) {
      this.#fail(
        last ?? new NetError('ENOTFOUND', `Cannot connect to ${this.#options.host} as it has no address`),
      );
      return;
    }
    const error = (code: NetErrorCode, reason: string): NetError => this.#error(first.text, code, reason);
    const route = routeTo(this.#host.netifs, first.ip);
    if ('reason' in route) this.#tryNext(rest, error(route.code, route.reason));
    else this.#attempt(first.ip, route, (code, reason) => this.#tryNext(rest, error(code, reason)));
  }

  #attempt(
    to: IpAddress,
    { netif, nextHop }: Route,
    refused: (code: NetErrorCode, reason: string) => void,
  ): void {
    if (nextHop === undefined || netif.neighbours.knows(nextHop)) {
      this.#open(to, refused);
      return;
    }
    const endWaiting = netif.neighbours.ask(nextHop, () => {
      this.#stopAsking();
      this.#open(to, refused);
    });
    const timer = setTimeout(() => {
      this.#stopAsking();
      if (netif.failure === undefined)
        refused('EHOSTUNREACH', `nobody on ${netif.name} answers ARP requests for ${formatIpv4(nextHop)}`);
      else refused('ENETDOWN', `interface ${netif.name} is dead: ${netif.failure}`);
    }, ARP_WAIT_MS).unref();
    this.#stopAsking = () => {
      clearTimeout(timer);
      endWaiting();
    };
  }

  #open(to: IpAddress, refused: (code: NetErrorCode, reason: string) => void): void {
    const { localAddress, localPort = 0, port } = this.#options;
    const connection = new Connection(this.#host.stack, {
      ...this.#stream,
      connected: () => this.#done(connection),
      failed: (err) => {
        if (this.#over) this.#stream.failed(err);
        else refused(...this.#whyNot(err));
      },
    });
    this.#connection = connection;
    const local = localAddress === undefined ? undefined : parseIp(localAddress);
    const err = connection.connect(to, port, localPort, local);
    if (err === ERR.OK) return;
    connection.abort();
    refused(...this.#whyNot(err));
  }

  #whyNot(err: number): [NetErrorCode, string] {
    switch (err) {
      case ERR.RST:
        return ['ECONNREFUSED', 'the host refused it: nothing listens on that port'];
      case ERR.ABRT:
        return ['ETIMEDOUT', 'the host did not answer: it is down or a filter drops it'];
      case ERR.USE:
        return ['EADDRINUSE', `local port ${this.#options.localPort} is in use`];
      case ERR.IF:
        return ['ENETDOWN', 'the network interface died'];
      case ERR.MEM:
        return ['ENOBUFS', 'lwIP has no memory left'];
      default:
        return [codeOf(err), `lwIP reports error ${err}`];
    }
  }

  #error(address: string, code: NetErrorCode, reason: string): NetError {
    const { port } = this.#options;
    const details = { syscall: 'connect', address, port };
    return new NetError(code, `Cannot connect to ${endpointText(address, port)} as ${reason}`, details);
  }

  #done(connection: Connection): void {
    this.#over = true;
    this.#events.connected(connection);
  }

  #fail(err: Error): void {
    this.#over = true;
    this.#events.failed(err);
  }
}
