import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { LogRecord } from '#common/obs/log_record';
import { LogReader, LogWriter } from './log_file.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync('/tmp/l4lab-log-');
});
afterEach(() => rmSync(dir, { recursive: true }));

function record(text: string): LogRecord {
  return { time: 1, task: 'io', tag: 'io', color: 7, stream: 'stdout', text, continued: false };
}
const texts = (records: LogRecord[] | undefined) => records?.map(({ text }) => text);

it('a reader gets what was written, then what is added, then nothing', () => {
  const writer = new LogWriter(dir);
  const reader = new LogReader(dir);
  writer.write(record('a'));
  writer.write(record('b\nwith a line feed'));
  expect(texts(reader.next())).toEqual(['a', 'b\nwith a line feed']);
  expect(texts(reader.next())).toEqual([]);
  writer.write(record('c'));
  expect(texts(reader.next())).toEqual(['c']);
  writer.close();
  rmSync(join(dir, 'log'));
  expect(reader.next()).toBeUndefined();
});

it('the log is bounded, and a reader that follows loses nothing when it turns over', () => {
  const writer = new LogWriter(dir);
  const reader = new LogReader(dir);
  const line = 'x'.repeat(100_000);
  let seen = 0;
  for (let n = 0; n < 200; n++) {
    writer.write(record(`${n} ${line}`));
    if (n % 5 === 0)
      for (const text of texts(reader.next()) ?? []) expect(text.startsWith(`${seen++} `)).toBe(true);
  }
  for (const text of texts(reader.next()) ?? []) expect(text.startsWith(`${seen++} `)).toBe(true);
  expect(seen).toBe(200);
  const bytes = readdirSync(dir).reduce((sum, name) => sum + statSync(join(dir, name)).size, 0);
  expect(bytes).toBeLessThan(9 * 2 ** 20);
  writer.close();
});

it('a reader that follows misses nothing that was written before the lab went, however often it turned over', () => {
  const writer = new LogWriter(dir);
  const reader = new LogReader(dir);
  writer.write(record('first'));
  expect(texts(reader.next())).toEqual(['first']);
  const lines = Array.from({ length: 90 }, (_, n) => `${n} ${'x'.repeat(100_000)}`);
  for (const line of lines.slice(0, 60)) writer.write(record(line));
  expect(texts(reader.next())).toEqual(lines.slice(0, 60));
  for (const line of lines.slice(60)) writer.write(record(line));
  writer.close();
  for (const name of readdirSync(dir)) rmSync(join(dir, name));
  expect(texts(reader.next())?.length).toBeGreaterThan(0);
  expect(reader.next()).toBeUndefined();
});

it('a line that was cut as there was no space costs nobody else', () => {
  const writer = new LogWriter(dir);
  const reader = new LogReader(dir);
  writer.write(record('a'));
  // Within a character of two bytes.
  appendFileSync(join(dir, 'log'), Buffer.from('{"text":"\u00e4').subarray(0, -1));
  expect(texts(reader.next())).toEqual(['a']);
  appendFileSync(join(dir, 'log'), '\n');
  writer.write(record('b'));
  writer.close();
  expect([texts(reader.next()), texts(new LogReader(dir).next())]).toEqual([['b'], ['a', 'b']]);
});

it('a reader of a lab that has never been there has nothing', () => {
  expect(new LogReader(join(dir, 'nowhere')).next()).toBeUndefined();
});
