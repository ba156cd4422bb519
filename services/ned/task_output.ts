/** Following a task: what its process prints becomes lines of the log until it has ended and all has been read. */
import type { Readable } from 'node:stream';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import type { TaskEnd, TaskProcess } from './loader.ts';
import { LineSplitter, type LogSink, type LogStyle } from './log.ts';

/**
 * A task's output ends with its process, unless something that it started holds the pipe: after this time
 * without any output we do not wait for more. A reader of the log that is slow is waited for.
 */
const OUTPUT_MS = 500;

/** Pieces of output of a task that wait for the log to be read. */
interface Reading {
  pending: number;
}

/** Resolves with the end of the process when its output has been written to the log. */
export async function followOutput(
  child: TaskProcess,
  task: string,
  style: LogStyle,
  sink: LogSink,
): Promise<TaskEnd> {
  const reading: Reading = { pending: 0 };
  const read = (stream: Readable | null, name: 'stdout' | 'stderr') =>
    stream && readLines(stream, new LineSplitter(sink, { task, stream: name, ...style }), reading);
  const outputs = [read(child.stdout, 'stdout'), read(child.stderr, 'stderr')];
  const end = await child.ended;
  await Promise.race([Promise.all(outputs), silence(reading)]);
  return end;
}

async function readLines(stream: Readable, splitter: LineSplitter, reading: Reading): Promise<void> {
  try {
    for await (const chunk of stream) {
      reading.pending += 1;
      await splitter.push(chunk as Buffer);
      reading.pending -= 1;
    }
  } catch {
    // The pipe broke with its process; what came before has been shown.
  }
  await splitter.end();
}

async function silence(reading: Reading): Promise<void> {
  do {
    await sleep(OUTPUT_MS, undefined, { ref: false });
    // On a busy machine we may not have come to read meanwhile: whatever is in the pipes comes before this.
    await turn();
  } while (reading.pending > 0);
}
