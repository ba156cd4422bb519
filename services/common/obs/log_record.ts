/**
 * One line of a lab's log, and how Moe prints it: the tag cut or padded to eight characters, `| ` (or
 * `: ` when the line goes on with one that was cut off), the tag's colour.
 */

export interface LogRecord {
  /** Milliseconds since the Unix epoch. */
  readonly time: number;
  /** Unique name of the task. */
  readonly task: string;
  /** Tag as the script gave it; several tasks may share one. */
  readonly tag: string;
  /** Colour number 0..7, 8 more for bright. */
  readonly color: number;
  readonly stream: 'stdout' | 'stderr';
  /** Without the line end. */
  readonly text: string;
  /** The line goes on with the text of the record before of this task. */
  readonly continued: boolean;
  /** Set when the record is no line but tells that a task was started or has ended; `text` is empty then. */
  readonly event?: TaskEvent;
}

export type TaskEvent =
  | { readonly kind: 'start'; readonly pid: number; readonly argv: readonly string[] }
  | { readonly kind: 'end'; readonly status: number };

const LETTERS = 'nrgybmcw';
const TAG_WIDTH = 8;

/** Number of a colour word: its first letter counts, upper case is bright; unknown is 0. */
export function colorNumber(word: string): number {
  const letter = word.charAt(0);
  const index = LETTERS.indexOf(letter.toLowerCase());
  if (index < 0) return 0;
  return letter === letter.toLowerCase() ? index : index + 8;
}

/** The printed form of a record, without line end. */
export function formatLog(record: LogRecord, colored: boolean): string {
  // Tags come from tasks too: they must not end the line or move the cursor.
  const tag = record.tag
    .slice(0, TAG_WIDTH)
    .replace(/\p{Cc}/gu, '?')
    .padEnd(TAG_WIDTH);
  const text = `${tag}${record.continued ? ': ' : '| '}${record.text}`;
  if (!colored || record.color === 0) return text;
  const bright = record.color >= 8 ? '01;' : '';
  return `\u001b[${bright}3${record.color & 7}m${text}\u001b[0m`;
}
