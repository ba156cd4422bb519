/** What tasks are called. */
import type { Task } from './task.ts';

/** What a task is called if nobody else has that name: its given name, its log tag, or its program. */
export function nameOf({
  name,
  tag,
  argv,
}: {
  readonly name?: string | undefined;
  readonly tag: string | undefined;
  readonly argv: readonly string[];
}): string {
  return name ?? tag ?? baseName(argv[0] ?? '');
}

/** `curl` of `rom/curl`. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** `curl`, or the first of `curl-2`, `curl-3`, ... that is not taken. */
export function freeName(wanted: string, isTaken: (name: string) => boolean): string {
  const base = wanted || 'task';
  for (let i = 1; ; i++) {
    const name = i === 1 ? base : `${base}-${i}`;
    if (!isTaken(name)) return name;
  }
}

/** By id, or the newest one of that name; if none has it, the newest one that runs that program. */
export function findTask(tasks: readonly Task[], wanted: string): Task | undefined {
  const named = tasks.findLast(({ id, name }) => id === wanted || name === wanted);
  return named ?? tasks.findLast(({ argv }) => baseName(argv[0] ?? '') === wanted);
}
