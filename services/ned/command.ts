/** The object behind `L4.server_loop(cap)`: takes statements from ned-prompt and hands them to the script. */
import type { ServerEnd } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import { bind } from '#common/ipc/service';
import { Command } from '../../proto/gen/services.js';
import type { LuaValue } from './engine/marshal.ts';

interface Waiting {
  readonly resolve: (reply: { result: string }) => void;
  readonly reject: (err: Error) => void;
}

export class CommandServer {
  readonly #ipc: Ipc;
  readonly #post: (event: LuaValue) => void;
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;

  /** `post` puts an event into the script's server loop. */
  constructor(ipc: Ipc, post: (event: LuaValue) => void) {
    this.#ipc = ipc;
    this.#post = post;
  }

  async serve(end: ServerEnd): Promise<void> {
    const gate = await this.#ipc.serve(end);
    gate.setRoot([
      bind(Command, {
        execute: ({ statement }) =>
          new Promise((resolve, reject) => {
            const id = this.#next++;
            this.#waiting.set(id, { resolve, reject });
            this.#post({ kind: 'command', id, statement });
          }),
      }),
    ]);
  }

  /** The script has carried out a command: errno 0, or EINVAL (does not parse) or EIO (failed). */
  done(id: number, errno: number, text: string): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (errno === 0) waiting?.resolve({ result: text });
    else waiting?.reject(new L4Error(errno, text));
  }
}
