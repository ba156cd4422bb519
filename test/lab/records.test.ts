/** The log of a lab in a container as its test sees it. */
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import type { LogRecord } from '#common/obs/log_record';
import { Records } from './records.ts';

const NEVER_MS = 2 ** 31 - 1;

function line(text: string, more: Partial<LogRecord> = {}): string {
  const base = { time: 1, task: 'curl', tag: 'curl', color: 7, stream: 'stdout', continued: false };
  return `${JSON.stringify({ ...base, text, ...more })}\n`;
}

it('text() has whole lines, also of one whose end was late', () => {
  const records = new Records();
  records.push(
    line('<html>') + line('<bo') + line('IP add', { stream: 'stderr' }) + line('hi', { task: 'web' }),
  );
  records.push(line('dy', { continued: true }) + line('ress', { stream: 'stderr', continued: true }));
  records.push(line('>', { continued: true }) + line('</html>'));
  expect(records.text('curl')).toBe('<html>\n<body>\nIP address\n</html>\n');
  expect(records.text()).toBe('<html>\n<body>\nIP address\nhi\n</html>\n');
});

it('first() finds what is on both sides of the seam, before and after', async () => {
  const records = new Records();
  const pick = ({ text }: LogRecord) => (/^one two$/.test(text) ? text : undefined);
  records.push(line('one '));
  const before = records.first(pick, 'it', NEVER_MS);
  records.push(line('two', { continued: true }));
  expect(await before).toBe('one two');
  expect(await records.first(pick, 'it', NEVER_MS)).toBe('one two');
});

it('first() takes records in pieces, without the last line end', async () => {
  const records = new Records();
  const stream = new PassThrough();
  records.follow(stream);
  const seen = records.first(
    ({ event }) => (event?.kind === 'end' ? event.status : undefined),
    'it',
    NEVER_MS,
  );
  const text = line('', { event: { kind: 'end', status: 7 } }).trimEnd();
  for (const byte of Buffer.from(text)) stream.write(Buffer.of(byte));
  stream.end();
  expect(await seen).toBe(7);
});

it('first() says why it waits no longer, with the output once', async () => {
  const records = new Records();
  const seen = records.first(() => undefined, 'the end', NEVER_MS);
  records.push(`${line('hello')}l4lab: no such script\n`);
  records.end('its container ended');
  const message =
    "Cannot wait for the end any longer as its container ended; the lab's output:\ncurl: hello\nl4lab: no such script";
  await expect(seen).rejects.toThrow(message);
  await expect(records.first(() => undefined, 'the end', NEVER_MS)).rejects.toThrow(message);
  await expect(new Records().first(() => undefined, 'the end', 0)).rejects.toThrow(/as 0 ms have passed/);
  await records.ended;
});
