/**
 * netdump: shows or records what comes out of a network port; on the switch's monitor port that is all traffic.
 *
 * Capability: the first one whose name starts with `virtnet`. Exit status: 0 asked to end or COUNT frames seen, 1 bad
 * command line, no port, or the port or the file failed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Capability } from '#common/ipc/capability';
import type { TaskEnv } from '#common/task/env';
import { Listener } from './listener.ts';
import { OptionError, type Options, parseOptions, USAGE } from './options.ts';
import { type FrameOutput, fileOutput, StreamOutput, TextOutput } from './outputs.ts';

const EXIT_FAILED = 1;
const CAP_PREFIX = 'virtnet';
/** How long the reader may take for the last frames when netdump is to end: less than ned gives a task. */
const FAREWELL_MS = 500;

/** Everything but the frames goes to stderr. */
const say = (line: string): void => console.error(line);

export async function main(env: TaskEnv): Promise<number> {
  const options = readOptions(env.argv.slice(1));
  if (!options) return EXIT_FAILED;
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const name = env.capNames.find((each) => each.startsWith(CAP_PREFIX)) ?? '';
  const cap = env.caps.get(name);
  if (!cap) {
    say(
      `Cannot listen as there is no port: give the task one, virtnet = vswitch:create(0, "type=monitor"); it has ${env.capNames.join(', ') || 'no capability'}`,
    );
    return EXIT_FAILED;
  }
  return listen(env, options, name, cap);
}

async function listen(
  env: TaskEnv,
  { file, count }: Options,
  name: string,
  cap: Capability,
): Promise<number> {
  let frames = 0;
  let end = (_status: number): void => {};
  const ended = new Promise<number>((resolve) => {
    end = resolve;
  });
  const fail = (text: string): void => {
    say(text);
    end(EXIT_FAILED);
  };
  const output = openOutput(env, file, name, fail);
  if (!output) return EXIT_FAILED;
  const sink = {
    frame: (offset: number, length: number): void => {
      if (count > 0 && frames === count) return;
      frames += 1;
      output.frame(offset, length);
    },
    endBatch: (): void => {
      output.endBatch();
      if (count > 0 && frames === count) end(0);
    },
  };
  const failed = ({ message }: Error): void => {
    if (!env.signal.aborted) fail(message);
  };
  const toEnd = new Promise<void>((resolve) => {
    if (env.signal.aborted) resolve();
    env.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  void toEnd.then(() => end(0));
  const listener = await Listener.open(env, name, cap, sink, failed).catch(failed);
  if (listener) say(`Listening on ${name}`);
  const status = await ended;
  await listener?.close();
  await Promise.race([output.close(), toEnd.then(() => sleep(FAREWELL_MS))]);
  const lost = output.lost > 0 ? `, ${output.lost} lost as the reader is too slow` : '';
  const left = output.pending > 0 ? `; the reader has not taken the last ${output.pending} bytes` : '';
  if (listener) say(`${frames - output.lost} frames${lost}${left}`);
  return status;
}

function openOutput(
  { arena, stdout }: TaskEnv,
  file: string | undefined,
  name: string,
  fail: (text: string) => void,
): FrameOutput | undefined {
  if (file === undefined) return new TextOutput(stdout, arena);
  if (file === '-') return new StreamOutput(stdout, arena, name);
  try {
    return fileOutput(file, arena, name, fail);
  } catch (err) {
    fail((err as Error).message);
    return undefined;
  }
}

function readOptions(args: readonly string[]): Options | undefined {
  try {
    return parseOptions(args);
  } catch (err) {
    if (!(err instanceof OptionError)) throw err;
    say(`netdump: ${err.message}`);
    return undefined;
  }
}
