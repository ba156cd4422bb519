/** The prompt's history: no lines that begin with a blank, no immediate repetitions. */
import type { Interface } from 'node:readline';

const MAX_LINES = 500;

/** What the history is after a line; newest first. */
export function addLine(history: readonly string[], line: string): string[] {
  if (line === '' || line.startsWith(' ') || line === history[0]) return [...history];
  return [line, ...history].slice(0, MAX_LINES);
}

/** Keeps the history of an interactive readline by our rules: Node's own stores every line. */
export function remember(lines: Interface): void {
  let history: string[] = [];
  const target = lines as Interface & { history?: string[] };
  lines.on('line', (line) => {
    history = addLine(history, line);
    target.history = [...history];
  });
}
