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
import type { l4lab as m } from '../../proto/gen/messages.js';

/** A task as far as channels care. */
export interface ChannelServer {
  readonly name: string;
  readonly running: boolean;
  /** Nobody has become it yet (external loading). */
  readonly dormant?: boolean;
  /** `task 'io' ended with status 1`. */
  readonly epitaph: string;
}

/** A task as far as what it can call matters. */
export interface ChannelClient {
  readonly name: string;
  readonly running: boolean;
  readonly capabilities: readonly m.INamedCapability[];
}

export interface Channel {
  readonly end: ServerEnd;
  /** `curl.cfg:22`, where new_channel() was called. */
  readonly site: string;
  /** The script's variable, once known. */
  name: string | undefined;
  /** Tasks that were given the server end, oldest first; of ended ones the newest when there is no other. */
  readonly servers: ChannelServer[];
  /** Running tasks that were given the channel itself, and under which name. */
  readonly clients: { readonly task: ChannelServer; readonly name: string }[];
  /** Served by ned itself (L4.server_loop). */
  own: boolean;
  /** It has been reported that nobody can serve it. */
  orphaned: boolean;
}

/** Channels that nobody can use any more are known, for messages, until there are more of them than this. */
const MAX_UNUSED = 50;

export class Channels {
  readonly #runDir: string;
  readonly #channels = new Map<string, Channel>();
  /** With so many it is time to look for those that nobody can use. */
  #lookAt = MAX_UNUSED;

  constructor(runDir: string) {
    this.#runDir = runDir;
  }

  add(end: ServerEnd, site: string): Channel {
    const channel: Channel = {
      end,
      site,
      name: undefined,
      servers: [],
      clients: [],
      own: false,
      orphaned: false,
    };
    this.#channels.set(end.gate, channel);
    return channel;
  }

  /**
   * A script may make channels as long as it lives: forgets the oldest of those that nobody can use any more.
   * Returns their gates.
   */
  forgetOldest(used: () => ReadonlySet<string>): string[] {
    if (this.#channels.size < this.#lookAt) return [];
    const inUse = used();
    const unused = [...this.#channels.values()].filter(({ end, own }) => !own && !inUse.has(end.gate));
    const forgotten = unused.slice(0, -MAX_UNUSED).map(({ end }) => end.gate);
    for (const gate of forgotten) {
      this.#channels.delete(gate);
      for (const suffix of ['', '.dead']) rmSync(gatePath(this.#runDir, gate) + suffix, { force: true });
    }
    this.#lookAt = this.#channels.size + MAX_UNUSED;
    return forgotten;
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

  /** True when somebody has bound the gate and has not ended since. */
  isServed(gate: string): boolean {
    return this.isBound(gate) && !existsSync(`${gatePath(this.#runDir, gate)}.dead`);
  }

  /** A task is about to start with these capabilities. */
  introduce(task: ChannelServer, capabilities: readonly m.INamedCapability[]): void {
    for (const { name, client, server } of capabilities) {
      if (server?.gate) this.addServer(server.gate, task);
      else if (client?.gate && !client.object) this.addClient(client.gate, task, name ?? '');
    }
  }

  /** A task is about to start with the server end of this gate. */
  addServer(gate: string, server: ChannelServer): void {
    const channel = this.#channels.get(gate);
    if (!channel) return;
    // A task that is started anew is the newest again; ended ones matter as long as nobody has come after them.
    const others = channel.servers.filter((other) => other !== server && other.running);
    channel.servers.splice(0, channel.servers.length, ...others, server);
    rmSync(`${gatePath(this.#runDir, gate)}.dead`, { force: true });
  }

  /** A task is about to start with the channel of this gate as the capability `name`. */
  addClient(gate: string, task: ChannelServer, name: string): void {
    const clients = this.#channels.get(gate)?.clients;
    const others = clients?.filter(
      (other) => other.task.running && (other.task !== task || other.name !== name),
    );
    clients?.splice(0, clients.length, ...(others ?? []), { task, name });
  }

  /**
   * Channels that running tasks call though nobody was given the server end. Whoever calls them gets an error from
   * now on (until a server starts after all); the sentences say who is concerned and what to add to the script.
   * With `among`, only those that one of these tasks calls.
   */
  buryOrphans(among?: readonly ChannelServer[]): string[] {
    const found: string[] = [];
    for (const channel of this.#channels.values()) {
      const callers = channel.clients.filter(({ task }) => task.running);
      const concerned = callers.some(({ task }) => among === undefined || among.includes(task));
      if (channel.own || channel.orphaned || channel.servers.length > 0 || !concerned) continue;
      channel.orphaned = true;
      const site = channel.site === '' ? '' : ` (created at ${channel.site})`;
      const who = callers.map(({ task, name }) => `task '${task.name}' calls it as '${name}'`).join(', ');
      const hint = `start its server with ${channel.name ?? 'channel'}:svr() in its caps`;
      found.push(
        `${nameOf(channel)}${site} has no server: ${who}, but its server end was given to no task; ${hint}`,
      );
      this.#bury(channel, `the server end of ${nameOf(channel)}${site} was given to no task; ${hint}`);
    }
    return found;
  }

  /** A task has ended: its gates are dead unless another running task has their server end as well. */
  serverEnded(server: ChannelServer): void {
    for (const channel of this.#channels.values()) {
      const { servers, own } = channel;
      if (!servers.includes(server) || own || servers.some(({ running }) => running)) continue;
      this.#bury(channel, server.epitaph);
    }
  }

  /** A task has ended and will be started again: until then its gates look as before its first start. */
  serverPaused(server: ChannelServer): void {
    for (const { end, servers } of this.#channels.values()) {
      if (!servers.includes(server) || servers.some((other) => other !== server && other.running)) continue;
      rmSync(gatePath(this.#runDir, end.gate), { force: true });
    }
  }

  /** Running tasks with capabilities of objects that `server` alone served: `task 'curl' (virtnet)`. */
  lossesOf(server: ChannelServer, tasks: readonly ChannelClient[]): string[] {
    const gates = new Set<string>();
    for (const { end, servers } of this.#channels.values()) {
      if (servers.includes(server) && !servers.some(({ running }) => running)) gates.add(end.gate);
    }
    return tasks.flatMap(({ name, running, capabilities }) => {
      const lost = capabilities.filter(({ client }) => gates.has(client?.gate ?? ''));
      return running && lost.length > 0
        ? [
            `task '${name}' (${lost
              .map((cap) => cap.name)
              .sort()
              .join(', ')})`,
          ]
        : [];
    });
  }

  #bury({ end }: Channel, reason: string): void {
    try {
      writeFileSync(`${gatePath(this.#runDir, end.gate)}.dead`, `${reason}\n`, { mode: 0o600 });
    } catch {
      // The file system is full: an empty file, which has been made by then, says it without the reason.
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
    if (server.dormant)
      return `its server end was given to task '${server.name}', which no component has become yet`;
    const state = !server.running ? server.epitaph : this.isBound(end.gate) ? 'running' : 'still starting';
    return `its server end was given to task '${server.name}', ${state}`;
  }
}

function nameOf({ name }: Channel): string {
  return name === undefined ? 'channel' : `channel '${name}'`;
}
