/**
 * A client's connection to one gate: a DEALER socket that all capabilities of that gate share.
 *
 * Calls wait here until the server is there (it may bind later, or come back after a restart) and are
 * only then handed to the socket, so that an abandoned call never reaches a server. A connection that
 * breaks turns every call that was sent into an error: the server may or may not have carried it out. What the socket then
 * still has for that server it hands to the next one, which knows by the call's `life` that it was not meant.
 * While waiting, the file `<gate>.dead` is looked for, which ned writes when the gate's server ended.
 */
import { readFileSync } from 'node:fs';
import { Dealer } from 'zeromq';
import { l4lab as m } from '../../../proto/gen/messages.js';
import { errnoText, L4Error, toL4Error } from './errors.ts';
import { SendQueue } from './send_queue.ts';
import type { CallOptions } from './service.ts';

const LOOK_FOR_DEATH_MS = 50;
const SAY_WAITING_MS = 1000;
const ANSWER_MS = 30_000;

/** One call in flight. */
export interface Call {
  /** `Vbus.getNext`, for messages. */
  readonly what: string;
  readonly header: m.ICallHeader;
  readonly body: Uint8Array;
  readonly options: CallOptions;
}

interface Pending {
  readonly call: Call;
  readonly resolve: (body: Uint8Array) => void;
  readonly reject: (err: Error) => void;
  sent: boolean;
  timer: NodeJS.Timeout | undefined;
  unlisten: (() => void) | undefined;
}

export interface ConnectionOptions {
  /** Full path of the server's socket, without `ipc://`. */
  readonly path: string;
  /** How messages call the server: a gate's short name, or what the owner knows of it. */
  readonly peer: () => string;
  /** Told once after a second when a call still waits for its server. */
  readonly onWaiting: (text: string) => void;
}

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #socket: Dealer;
  readonly #queue: SendQueue<Uint8Array[]>;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  /** Which life of the server has answered on this connection; 0: none yet. */
  #life = 0;
  #up = false;
  #onNextDown: (() => void)[] = [];
  #closed = false;
  #watch: NodeJS.Timeout | undefined;
  #waitingSince = 0;
  #saidWaiting = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#socket = new Dealer({
      linger: 0,
      sendHighWaterMark: 0,
      receiveHighWaterMark: 0,
      reconnectInterval: 5,
      reconnectMaxInterval: 100,
    });
    this.#queue = new SendQueue(this.#socket, (err) => this.#failAll(toL4Error(err), () => true));
    this.#socket.events.on('handshake', () => this.#onUp());
    this.#socket.events.on('disconnect', () => this.#onDown());
    this.#socket.connect(`ipc://${options.path}`);
    void this.#receive();
  }

  call(call: Call): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const { signal, deadlineMs } = call.options;
      if (signal?.aborted) return reject(canceled(call, signal));
      if (this.#closed)
        return reject(new L4Error('EIPC_CANCELED', `Cannot call ${call.what} as this program is ending`));
      const id = this.#nextId;
      this.#nextId = (id % 0xffff_fffe) + 1;
      const pending: Pending = { call, resolve, reject, sent: false, timer: undefined, unlisten: undefined };
      this.#pending.set(id, pending);
      if (deadlineMs !== undefined) this.#startTimer(id, pending, deadlineMs);
      if (signal) {
        const onAbort = () => this.#abandon(id, pending, canceled(call, signal));
        signal.addEventListener('abort', onAbort, { once: true });
        pending.unlisten = () => signal.removeEventListener('abort', onAbort);
      }
      if (this.#up) this.#transmit(id, pending);
      else this.#wait();
    });
  }

  /** Resolves when the server goes away (again). */
  whenDown(): Promise<void> {
    return new Promise((resolve) => this.#onNextDown.push(resolve));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#watch);
    this.#failAll(new L4Error('EIPC_CANCELED', 'Call abandoned as this program is ending'), () => true);
    this.#socket.close();
  }

  #transmit(id: number, pending: Pending): void {
    pending.sent = true;
    if (pending.timer === undefined) this.#startTimer(id, pending, ANSWER_MS);
    const header = { ...pending.call.header, id, life: this.#life };
    this.#queue.push([m.CallHeader.encode(header).finish(), pending.call.body]);
  }

  #startTimer(id: number, pending: Pending, ms: number): void {
    pending.timer = setTimeout(() => {
      const where = pending.sent ? 'its server did not answer' : `nobody serves it: ${this.#whyDown()}`;
      this.#abandon(
        id,
        pending,
        new L4Error(
          'EIPC_RECV_TIMEOUT',
          `Call ${pending.call.what} of ${this.#options.peer()} gave up after ${ms} ms as ${where}`,
        ),
      );
    }, ms);
  }

  #abandon(id: number, pending: Pending, err: Error): void {
    if (this.#pending.get(id) !== pending) return;
    if (pending.sent && this.#up)
      this.#queue.push([m.CallHeader.encode({ id, cancel: true }).finish(), new Uint8Array(0)]);
    this.#settle(id, pending);
    pending.reject(err);
  }

  #settle(id: number, pending: Pending): void {
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    pending.unlisten?.();
  }

  #onUp(): void {
    this.#up = true;
    this.#saidWaiting = false;
    clearInterval(this.#watch);
    this.#watch = undefined;
    for (const [id, pending] of this.#pending) if (!pending.sent) this.#transmit(id, pending);
  }

  #onDown(): void {
    if (!this.#up) return;
    this.#up = false;
    this.#life = 0;
    for (const tell of this.#onNextDown.splice(0)) tell();
    const message = `the server of ${this.#options.peer()} went away during the call`;
    this.#failAll(
      new L4Error('EIPC_NOT_EXISTENT', `Call failed as ${message}`, { code: 'IPC_SERVER_DIED' }),
      (p) => p.sent,
    );
    if (this.#pending.size > 0) this.#wait();
  }

  /** Calls are waiting for a server: look whether it died, and say after a second what is waited for. */
  #wait(): void {
    if (this.#watch !== undefined) return;
    this.#waitingSince = performance.now();
    this.#watch = setInterval(() => this.#lookForDeath(), LOOK_FOR_DEATH_MS);
    setImmediate(() => this.#lookForDeath());
  }

  #lookForDeath(): void {
    if (this.#up || this.#closed) return;
    const dead = epitaphOf(this.#options.path);
    if (dead !== undefined) {
      this.#failAll(
        new L4Error('EIPC_NOT_EXISTENT', `Cannot reach ${this.#options.peer()} as ${dead}`, {
          code: 'IPC_SERVER_DIED',
        }),
        (p) => !p.sent && p.call.options.patient !== true,
      );
    }
    const [first] = this.#pending.values();
    if (!first) {
      clearInterval(this.#watch);
      this.#watch = undefined;
      return;
    }
    if (this.#saidWaiting || performance.now() - this.#waitingSince < SAY_WAITING_MS) return;
    this.#saidWaiting = true;
    this.#options.onWaiting(`${first.call.what}: waiting for a server of ${this.#options.peer()}`);
  }

  #whyDown(): string {
    return epitaphOf(this.#options.path) ?? 'its server has not started';
  }

  #failAll(err: Error, which: (pending: Pending) => boolean): void {
    for (const [id, pending] of this.#pending) {
      if (!which(pending)) continue;
      this.#settle(id, pending);
      const { errno, code } = toL4Error(err);
      pending.reject(new L4Error(errno, `${pending.call.what}: ${err.message}`, { code }));
    }
  }

  async #receive(): Promise<void> {
    try {
      for await (const [head, body] of this.#socket) this.#onReply(head, body);
    } catch (err) {
      if (!this.#closed) this.#failAll(toL4Error(err), () => true);
    }
  }

  #onReply(head: Uint8Array | undefined, body: Uint8Array | undefined): void {
    let reply: m.ReplyHeader;
    try {
      reply = m.ReplyHeader.decode(head ?? new Uint8Array(0));
    } catch {
      return; // not ours to mend: the call times out and says so
    }
    const pending = this.#pending.get(reply.id);
    // Of an earlier connection: its server is another by now.
    if (!pending) return;
    this.#life = reply.life;
    this.#settle(reply.id, pending);
    if (reply.error === 0) pending.resolve(body ?? new Uint8Array(0));
    else {
      const message = reply.message || `${pending.call.what}: ${errnoText(reply.error)}`;
      pending.reject(new L4Error(reply.error, message, { code: reply.code }));
    }
  }
}

/** What ned wrote when the server of the gate at that path ended. */
export function epitaphOf(path: string): string | undefined {
  try {
    return readFileSync(`${path}.dead`, 'utf8').trim() || 'its server has ended';
  } catch {
    return undefined;
  }
}

function canceled(call: Call, signal: AbortSignal): L4Error {
  return new L4Error('EIPC_CANCELED', `Call ${call.what} was abandoned by its caller`, {
    cause: signal.reason,
  });
}
