/** A component that has become its task: program, output, orders of the broker, exit status. */
import { setTimeout as sleep } from 'node:timers/promises';
import { toL4Error } from '#common/ipc/errors';
import { execv } from '#common/shm/libc';
import type { Health } from '#common/task/health';
import { reportUncaught, runTask } from '#common/task/run';
import { l4lab as m } from '../../../proto/gen/messages.js';
import type { BrokerConnection } from '../broker_client.ts';
import { NO_LIMIT_MS } from '../lab_calls.ts';
import { LogTee } from './output.ts';
import type { StopRequest } from './stop_request.ts';

const { END, KILL, RESTART } = m.CommandReply.Kind;
/** The farewell to a broker that does not answer. */
const FAREWELL_MS = 1500;
const TRY_AGAIN_MS = 500;
const EXIT_KILLED = 137;
const EXIT_SIGTERM = 143;

export interface RunningContext {
  readonly connection: BrokerConnection;
  readonly record: m.LaunchRecord;
  readonly dir: string;
  /** Our id at the broker. */
  readonly instance: string;
  readonly stop: StopRequest;
  readonly say: (text: string) => void;
  readonly health: Health;
  /** Ends the process at once. */
  die(status: number): void;
}

export class RunningComponent {
  readonly #context: RunningContext;
  readonly #tee = new LogTee((chunks) => this.#send(chunks));
  #again = false;
  #known = true;

  constructor(context: RunningContext) {
    this.#context = context;
  }

  /** Runs the program to its end and tells the broker. Returns the exit status. */
  async run(): Promise<number> {
    const { record, dir, stop, health } = this.#context;
    process.title = record.name;
    process.on('uncaughtException', (err) => {
      const status = reportUncaught(err);
      void this.#farewell(status).finally(() => this.#context.die(status));
    });
    this.#tee.attach();
    void this.#obey();
    const forced = stop.graceOver.then(() => EXIT_SIGTERM);
    const status = await Promise.race([runTask(record, dir, stop.signal, health), forced]);
    await this.#farewell(status);
    if (this.#again)
      execv(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)]);
    return status;
  }

  /** Does what the broker says until the process ends. */
  async #obey(): Promise<void> {
    const { connection, instance, stop, say } = this.#context;
    while (this.#known) {
      try {
        const { kind } = await connection.broker.command({ instance }, { deadlineMs: NO_LIMIT_MS });
        // Like SIGKILL, which the first process of a container cannot send to itself.
        if (kind === KILL) this.#context.die(EXIT_KILLED);
        if (kind === RESTART) this.#again = true;
        if (kind === RESTART || kind === END) stop.request();
      } catch (err) {
        const { code, message } = toL4Error(err);
        if (code === 'IPC_SERVER_DIED') continue;
        if (code === 'BROKER_UNKNOWN') {
          this.#known = false;
          say(`the broker was started anew and does not know this task: it goes on by itself (${message})`);
        } else await sleep(TRY_AGAIN_MS, undefined, { ref: false });
      }
    }
  }

  /** A batch that was under way when the broker ended is sent again. */
  async #send(chunks: m.ILogChunk[]): Promise<void> {
    const { connection, instance } = this.#context;
    while (this.#known) {
      try {
        await connection.broker.log({ instance, chunks });
        return;
      } catch (err) {
        if (toL4Error(err).code !== 'IPC_SERVER_DIED') return;
      }
    }
  }

  /** The rest of the output, then the status. A broker that is away learns of the end from the kernel. */
  async #farewell(status: number): Promise<void> {
    const { connection, instance } = this.#context;
    await Promise.race([this.#tee.flush(), sleep(FAREWELL_MS)]);
    await connection.broker.ended({ instance, status }, { deadlineMs: FAREWELL_MS }).catch(() => {});
    connection.ipc.close();
  }
}
