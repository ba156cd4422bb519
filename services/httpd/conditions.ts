/** Validators and conditional requests [RFC 9110 §8.8, §13], and the one range that we serve [RFC 9110 §14]. */
import type { IncomingHttpHeaders } from 'node:http';

export interface Validators {
  /** With quotes; undefined when nobody knows when the file was changed. */
  readonly etag: string | undefined;
  /** Whole seconds, as dates in headers have them; milliseconds since 1970. */
  readonly modified: number | undefined;
}

/** Bytes `start` to `end` - 1. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

export function validatorsOf({ size, modified }: { size: number; modified: number }): Validators {
  if (modified === 0) return { etag: undefined, modified: undefined };
  return {
    etag: `"${size.toString(16)}-${modified.toString(16)}"`,
    modified: Math.floor(modified / 1000) * 1000,
  };
}

/**
 * True when the client wants another version than this: 412. If-Match comes before If-Unmodified-Since [RFC 9110 §13.2.2];
 * a weak tag matches nothing [RFC 9110 §13.1.1].
 */
export function isOtherVersion(headers: IncomingHttpHeaders, { etag, modified }: Validators): boolean {
  const tags = headers['if-match'];
  if (tags !== undefined) {
    const list = tags.split(',').map((tag) => tag.trim());
    return tags.trim() !== '*' && (etag === undefined || !list.includes(etag));
  }
  const since = Date.parse(headers['if-unmodified-since'] ?? '');
  return modified !== undefined && !Number.isNaN(since) && modified > since;
}

/** True when the client has it already: 304. If-None-Match comes before If-Modified-Since [RFC 9110 §13.2.2]. */
export function isNotModified(headers: IncomingHttpHeaders, { etag, modified }: Validators): boolean {
  const tags = headers['if-none-match'];
  if (tags !== undefined) return etag !== undefined && namesTag(tags, etag);
  const since = Date.parse(headers['if-modified-since'] ?? '');
  return modified !== undefined && !Number.isNaN(since) && modified <= since;
}

/** Weak comparison against a list [RFC 9110 §8.8.3.2]. */
function namesTag(list: string, etag: string): boolean {
  const tags = list.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  return tags.includes(etag) || list.trim() === '*';
}

const SINGLE_RANGE = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i;

/**
 * The range that a GET asks for: undefined for the whole file (no header, several ranges, something that is no range,
 * or If-Range names another version), 'unsatisfiable' for 416.
 */
export function requestedRange(
  headers: IncomingHttpHeaders,
  size: number,
  validators: Validators,
): Range | 'unsatisfiable' | undefined {
  const match = SINGLE_RANGE.exec(headers.range ?? '');
  if (match === null || !isSameVersion(headers['if-range'], validators)) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '' && last === '') return undefined;
  if (first === '') {
    const count = Math.min(Number(last), size);
    return count === 0 ? 'unsatisfiable' : { start: size - count, end: size };
  }
  const start = Number(first);
  const end = last === '' ? size : Math.min(Number(last) + 1, size);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= size ? 'unsatisfiable' : { start, end };
}

/** Strong comparison: a weak tag never matches. */
function isSameVersion(condition: string | string[] | undefined, { etag, modified }: Validators): boolean {
  if (condition === undefined) return true;
  const text = String(condition).trim();
  if (text.startsWith('"')) return text === etag;
  return modified !== undefined && Date.parse(text) === modified;
}
