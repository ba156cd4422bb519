import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { LogRecord } from '#common/obs/log_record';
import { LineSplitter, LogSink, LogTags } from './log.ts';

describe('LineSplitter', () => {
  let records: LogRecord[];
  let splitter: LineSplitter;

  beforeEach(() => {
    vi.useFakeTimers();
    records = [];
    const sink = new LogSink({ write: async (line) => void records.push(JSON.parse(String(line))) });
    splitter = new LineSplitter(sink, { task: 'curl', stream: 'stdout', tag: 'curl', color: 2 });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const texts = () => records.map(({ text, continued }) => (continued ? `:${text}` : text));

  it('makes a record of each complete line', async () => {
    await splitter.push('a\r\n\nb\nrest');
    expect(texts()).toEqual(['a', '', 'b']);
    expect(records[0]).toMatchObject({ task: 'curl', tag: 'curl', color: 2, stream: 'stdout' });
  });

  it('joins lines that come in pieces, also in the middle of a character', async () => {
    const bytes = Buffer.from('häll');
    await splitter.push(bytes.subarray(0, 2));
    await splitter.push(bytes.subarray(2));
    await splitter.push('o\n');
    expect(texts()).toEqual(['hällo']);
  });

  it('shows the beginning of a line after 50 ms and marks its continuation', async () => {
    await splitter.push('Cmd> ');
    await vi.advanceTimersByTimeAsync(49);
    expect(texts()).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    await splitter.push('x\ny\n');
    expect(texts()).toEqual(['Cmd> ', ':x', 'y']);
  });

  it('a line feed alone ends a line that has been shown', async () => {
    await splitter.push('abc');
    await splitter.flush();
    await splitter.push('\nd\n');
    expect(texts()).toEqual(['abc', 'd']);
  });

  it('end() shows what is left', async () => {
    await splitter.push(Buffer.from([0x61, 0xc3]));
    await splitter.end();
    expect(texts()).toEqual(['a\ufffd']);
  });

  it('cuts a line without end', async () => {
    await splitter.push('x'.repeat(200_000));
    expect(records).toHaveLength(3);
    expect(records.every(({ text }) => text.length === 65_536)).toBe(true);
  });

  it('cuts a long line that comes at once, and no character in two', async () => {
    const line = `${'x'.repeat(65_535)}\u{1f427}y`;
    await splitter.push(`${line}\nnext\n`);
    expect(records.map(({ text, continued }) => [text.length, continued])).toEqual([
      [65_535, false],
      [3, true],
      [4, false],
    ]);
    expect(records.map(({ text }) => text).join('')).toBe(`${line}next`);
  });
});

it('LogTags.get() knows the objects of one gate from those of another', () => {
  const tags = new LogTags(new LogSink({ write: async () => {} }));
  const cap = (gate: string) => ({ gate, object: 7, masks: [], proof: new Uint8Array(16) });
  tags.set(cap('a'), { tag: 'x', color: 1 });
  expect([tags.get(cap('a')), tags.get(cap('b'))]).toEqual([{ tag: 'x', color: 1 }, undefined]);
});
