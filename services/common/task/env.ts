/** What a task has: L4Re's environment of a task, as a program sees it. */
import type { Capability, ServerEnd } from '#common/ipc/capability';
import type { Ipc } from '#common/ipc/ipc';
import type { Arena } from '#common/shm/arena';
import type { SharedMemories } from '#common/shm/dataspace';
import type { Doorbells } from '#common/shm/doorbell';
import type { Files } from './files.ts';
import type { Health } from './health.ts';

export interface Output {
  /** Resolves when the bytes have left this process's buffers: awaiting it is back-pressure. */
  write(data: string | Uint8Array): Promise<void>;
}

export interface TaskEnv {
  /** Unique among the lab's running tasks; the log tag. */
  readonly name: string;
  /** Id of this task, 32 hex digits. */
  readonly task: string;
  /** argv[0] is the program as the script wrote it (`rom/curl`). */
  readonly argv: readonly string[];
  /** The third table of `L4.default_loader:start`, nothing else. */
  readonly environment: ReadonlyMap<string, string>;
  /** Names of all capabilities in the order they were given. */
  readonly capNames: readonly string[];
  readonly caps: ReadonlyMap<string, Capability>;
  /** The capabilities that were given as `channel:svr()`. */
  readonly serverEnds: ReadonlyMap<string, ServerEnd>;
  /** Run directory of the lab: sockets, shared memory, doorbells. */
  readonly runDir: string;
  readonly ipc: Ipc;
  readonly arena: Arena;
  readonly memories: SharedMemories;
  readonly doorbells: Doorbells;
  /** This task's own object of ned, service Parent. Unset for what the launcher starts. */
  readonly parent: Capability | undefined;
  /** Factory of ned: dataspaces, DMA spaces, ... Unset for what the launcher starts. */
  readonly memAlloc: Capability | undefined;
  /** Tasks are started by others (l4lab broker): a server that has ended may well come back. */
  readonly external: boolean;
  /** For what the program knows about itself; its gates are looked after. Unset when nobody asks. */
  readonly health?: Pick<Health, 'set' | 'serving'> | undefined;
  /** The file system whose root are the named capabilities. */
  readonly files: Files;
  /** Aborted when the task is to end (SIGTERM): finish and return. */
  readonly signal: AbortSignal;
  readonly stdout: Output;
  readonly stderr: Output;
}

/** What services/<program>/main.ts exports. */
export interface Program {
  /** Runs the program; the result is the exit status. Never calls process.exit. */
  main(env: TaskEnv): Promise<number>;
  /** Addresses that the program's data plane may need, in bytes; default 1 GiB. */
  readonly arenaBytes?: number;
}
