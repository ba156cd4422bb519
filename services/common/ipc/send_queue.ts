/** zeromq allows one send at a time on a socket; this keeps the rest in order behind it. */
import type { Writable } from 'zeromq';

export class SendQueue<Message extends Uint8Array[]> {
  readonly #socket: Pick<Writable, 'send'>;
  readonly #onFailure: (err: unknown, message: Message) => void;
  #waiting: Message[] = [];
  #sending = false;

  constructor(socket: Pick<Writable, 'send'>, onFailure: (err: unknown, message: Message) => void) {
    this.#socket = socket;
    this.#onFailure = onFailure;
  }

  push(message: Message): void {
    this.#waiting.push(message);
    if (!this.#sending) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#sending = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      for (const message of batch) {
        try {
          await this.#socket.send(message);
        } catch (err) {
          this.#onFailure(err, message);
        }
      }
    }
    this.#sending = false;
  }
}
