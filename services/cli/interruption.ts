/** Ctrl-C and SIGTERM for commands that run until they are told to end, and end in order. */

/** Aborted by SIGINT, SIGTERM or SIGHUP. */
export function endSignal(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => controller.abort());
  return controller.signal;
}
