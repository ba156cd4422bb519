import { expect, it } from 'vitest';
import { colorNumber, formatLog, type LogRecord } from './log_record.ts';

const record: LogRecord = {
  time: 0,
  task: 'l4vio_switch',
  tag: 'l4vio_switch',
  color: 7,
  stream: 'stdout',
  text: 'Hello',
  continued: false,
};

it('formatLog() cuts or pads the tag to eight characters and marks continued lines', () => {
  expect(formatLog(record, false)).toBe('l4vio_sw| Hello');
  expect(formatLog({ ...record, tag: 'io', continued: true }, false)).toBe('io      : Hello');
  expect(formatLog({ ...record, tag: 'a\n\u001b[2J' }, false)).toBe('a??[2J  | Hello');
});

it('formatLog() colours the line; colour 0 is none, 8 and above bright', () => {
  expect(formatLog(record, true)).toBe('\u001b[37ml4vio_sw| Hello\u001b[0m');
  expect(formatLog({ ...record, color: 9 }, true)).toBe('\u001b[01;31ml4vio_sw| Hello\u001b[0m');
  expect(formatLog({ ...record, color: 0 }, true)).toBe('l4vio_sw| Hello');
});

it('colorNumber() looks at the first letter only, upper case is bright, unknown is none', () => {
  expect(['n', 'red', 'g', 'y', 'blue', 'm', 'c', 'w', 'R', 'White', 'x', ''].map(colorNumber)).toEqual([
    0, 1, 2, 3, 4, 5, 6, 7, 9, 15, 0, 0,
  ]);
});
