/**
 * The gates that the script made: who has their server ends, and what to say of them in messages.
 *
 * A task's process that ends leaves `<gate>.dead` beside its gates' sockets, so that whoever waits for
 * the server learns why it never comes.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerEnd } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import { gatePath } from '#common/ipc/ipc';

/** A task as far as channels care. */
export interface ChannelServer {
  readonly name: string;
  readonly running: boolean;
  /** `task 'io' ended with status 1`. */
  readonly epitaph: string;
}

export interface Channel {
  readonly end: ServerEnd;
  /** `curl.cfg:22`, where new_channel() was called. */
  readonly site: string;
  /** The script's variable, once known. */
  name: string | undefined;
  /** Tasks that were given the server end, oldest first. */
  readonly servers: ChannelServer[];
  /** Served by ned itself (L4.server_loop). */
  own: boolean;
}

export class Channels {
  readonly #runDir: string;
  readonly #channels = new Map<string, Channel>();

  constructor(runDir: string) {
    this.#runDir = runDir;
  }

  add(end: ServerEnd, site: string): Channel {
    const channel: Channel = { end, site, name: undefined, servers: [], own: false };
    this.#channels.set(end.gate, channel);
    return channel;
  }

  get(gate: string): Channel | undefined {
    return this.#channels.get(gate);
  }

  [Symbol.iterator](): IterableIterator<Channel> {
    return this.#channels.values();
  }

  /** True when a server has bound the gate. */
  isBound(gate: string): boolean {
    return existsSync(gatePath(this.#runDir, gate));
  }

  /** A task is about to start with the server end of this gate. */
  addServer(gate: string, server: ChannelServer): void {
    const channel = this.#channels.get(gate);
    if (!channel) return;
    channel.servers.push(server);
    rmSync(`${gatePath(this.#runDir, gate)}.dead`, { force: true });
  }

  /** A task has ended: its gates are dead unless another running task has their server end as well. */
  serverEnded(server: ChannelServer): void {
    for (const { end, servers, own } of this.#channels.values()) {
      if (!servers.includes(server) || own || servers.some(({ running }) => running)) continue;
      writeFileSync(`${gatePath(this.#runDir, end.gate)}.dead`, `${server.epitaph}\n`, { mode: 0o600 });
    }
  }

  /** Throws L4Error when no call on this gate can ever be answered. */
  checkReachable(gate: string): void {
    const channel = this.#channels.get(gate);
    if (!channel || channel.own || channel.servers.length > 0) return;
    const variable = channel.name ?? 'channel';
    throw new L4Error(
      'EIPC_NOT_EXISTENT',
      `nobody can ever answer: ${this.describe(gate)}; start its server first, with ${variable}:svr() in its caps`,
      { code: 'NED_NO_SERVER' },
    );
  }

  /** Says of a call that failed with its server which task that was; other errors stay as they are. */
  explain(gate: string, err: L4Error): L4Error {
    const channel = this.#channels.get(gate);
    const server = channel?.servers.at(-1);
    if (!channel || !server || server.running || err.code !== 'IPC_SERVER_DIED') return err;
    const site = channel.site === '' ? '' : ` (created at ${channel.site})`;
    const message = `${nameOf(channel)}${site} has no server any more: ${server.epitaph}; see what '${server.name}' printed`;
    return new L4Error(err.errno, message, { code: err.code, cause: err });
  }

  /** `channel 'vswitch' (created at curl.cfg:22; ...)`; undefined for gates that ned did not make. */
  describe(gate: string): string | undefined {
    const channel = this.#channels.get(gate);
    if (!channel) return undefined;
    const facts = [channel.site === '' ? '' : `created at ${channel.site}`, this.#serverText(channel)];
    return `${nameOf(channel)} (${facts.filter(Boolean).join('; ')})`;
  }

  #serverText({ end, servers, own }: Channel): string {
    if (own) return 'served by ned itself';
    const server = servers.findLast(({ running }) => running) ?? servers.at(-1);
    if (!server) return 'its server end was given to no task';
    const state = !server.running ? server.epitaph : this.isBound(end.gate) ? 'running' : 'still starting';
    return `its server end was given to task '${server.name}', ${state}`;
  }
}

function nameOf({ name }: Channel): string {
  return name === undefined ? 'channel' : `channel '${name}'`;
}
