/** An `http.Agent` whose connections run over lwIP: Node's HTTP client works unchanged on it. */
import { Agent, type AgentOptions } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ConnectOptions, SocketHost } from './connector.ts';
import { Socket } from './socket.ts';

export class LwipAgent extends Agent {
  readonly #host: SocketHost;

  constructor(host: SocketHost, options: AgentOptions = {}) {
    super(options);
    this.#host = host;
  }

  /** Called by `http.request`; `options.lookup`, `localAddress`, `family` and `timeout` are respected. */
  override createConnection(options: object): Duplex {
    const connect = options as ConnectOptions;
    return new Socket(this.#host).connect({ ...connect, port: Number(connect.port) });
  }
}
