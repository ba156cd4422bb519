/**
 * Lines of a stream. Only a line feed ends one: since Node 24 node:readline ends them at U+2028, too, which JSON does not
 * escape, and so cuts records in two.
 */
import { once } from 'node:events';
import type { Readable } from 'node:stream';

/** Calls `onLine` with each line, without its end, and with the rest. Resolves at the end of the stream, however that comes. */
export async function eachLine(stream: Readable, onLine: (line: string) => void): Promise<void> {
  let rest = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    const lines = text.split('\n');
    lines[0] = `${rest}${lines[0]}`;
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  await once(stream, 'close').catch(() => {});
  if (rest !== '') onLine(rest);
}
