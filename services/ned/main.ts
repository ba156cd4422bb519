/** ned: runs the script and is the parent of all tasks that it starts (l4re-facts.md chapter 1). */
import type { TaskEnv } from '#common/task/env';
import { startInterpreter } from './engine/thread.ts';
import { parseOptions } from './options.ts';

export async function main(env: TaskEnv): Promise<number> {
  const [program = 'ned', ...words] = env.argv;
  const options = parseOptions(program, words);
  // The thread takes longest: it starts while the rest of ned is being loaded.
  const thread = startInterpreter(options);
  const { Ned } = await import('./ned.ts');
  return new Ned(env, options, thread).run();
}
