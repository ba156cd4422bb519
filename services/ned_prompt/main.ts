/** ned-prompt: reads statements and has ned run them (l4re-facts.md 1.9). Usage: `ned-prompt [prompt]`. */
import { createInterface } from 'node:readline';
import { L4Error } from '#common/ipc/errors';
import type { Client } from '#common/ipc/service';
import type { TaskEnv } from '#common/task/env';
import { Command } from '../../proto/gen/services.js';
import { remember } from './history.ts';

const DEFAULT_PROMPT = 'Cmd>';
/** A statement may wait for a task, which takes as long as it takes. */
const NO_LIMIT_MS = 2 ** 31 - 1;

export async function main(env: TaskEnv): Promise<number> {
  const cap = env.caps.get('svr');
  if (!cap) {
    const hint = env.serverEnds.has('svr') ? '; pass the channel itself, without :svr()' : '';
    throw new L4Error('ENOENT', `Cannot reach ned as the capability 'svr' is missing${hint}`);
  }
  const ned = env.ipc.client(Command, cap);
  const interactive = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const prompt = `${env.argv[1] ?? DEFAULT_PROMPT} `;
  // First: once the interface is there, lines that come before somebody takes them are lost.
  await env.stdout.write('Welcome to ned prompt.\n');
  const lines = createInterface({
    input: process.stdin,
    output: process.stdout,
    terminal: interactive,
    prompt,
    historySize: 0,
  });
  if (interactive) remember(lines);
  env.signal.addEventListener('abort', () => lines.close(), { once: true });
  // On a terminal Ctrl-C clears the line; the end of input (Ctrl-D) ends the prompt.
  lines.on('SIGINT', () => lines.write(null, { ctrl: true, name: 'u' }));

  // Nobody would read the prompt of piped input; in a log it would only split lines.
  const ask = () => interactive && lines.prompt();
  ask();
  for await (const line of lines) {
    if (line.trim() !== '') await execute(ned, line, env);
    ask();
  }
  return 0;
}

async function execute(ned: Client<typeof Command>, statement: string, env: TaskEnv): Promise<void> {
  try {
    const { result } = await ned.execute({ statement }, { deadlineMs: NO_LIMIT_MS, signal: env.signal });
    if (result !== 'nil') await env.stdout.write(`${result}\n`);
  } catch (err) {
    if (!(err instanceof L4Error)) throw err;
    await env.stdout.write(`Error calling ned: ${-err.errno} (${err.message})\n`);
  }
}
