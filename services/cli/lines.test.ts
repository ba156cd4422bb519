import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { eachLine } from './lines.ts';

async function linesOf(...chunks: (string | Buffer)[]): Promise<string[]> {
  const stream = new PassThrough();
  const lines: string[] = [];
  const end = eachLine(stream, (line) => lines.push(line));
  for (const chunk of chunks) stream.write(chunk);
  stream.end();
  await end;
  return lines;
}

it('eachLine() puts pieces together, and gives the rest at the end', async () => {
  expect(await linesOf('a\nb', 'c\n\nd')).toEqual(['a', 'bc', '', 'd']);
  expect(await linesOf('a\n')).toEqual(['a']);
  expect(await linesOf()).toEqual([]);
});

it('eachLine() does not cut within characters, nor at what Unicode takes for the end of a line', async () => {
  const bytes = Buffer.from('ä\u2028ö\u0085\r|\n');
  expect(await linesOf(...[...bytes].map((byte) => Buffer.of(byte)))).toEqual(['ä\u2028ö\u0085\r|']);
});

it('eachLine() ends with a stream that breaks', async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  const end = eachLine(stream, (line) => {
    lines.push(line);
    stream.destroy(new Error('gone'));
  });
  stream.write('a\nb');
  await end;
  expect(lines).toEqual(['a', 'b']);
});
