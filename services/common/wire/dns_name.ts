/**
 * Domain names in DNS messages [RFC 1035 §3.1, §4.1.4] and as text [RFC 1035 §5.1].
 *
 * As text a name has no final dot (the root is ''); dots and backslashes inside a label are written `\.` and
 * `\\`, bytes that do not print `\ddd`, so that no label from outside can pass for two.
 */

import { get16 } from './bytes.ts';
import { MalformedError } from './malformed.ts';

/** Longest label and longest whole name in octets, length bytes included [RFC 1035 §2.3.4]. */
export const MAX_LABEL = 63;
export const MAX_NAME = 255;

const POINTER = 0xc0;

/** A name and where the message goes on behind it. */
export interface ReadName {
  readonly name: string;
  readonly next: number;
}

/**
 * Reads the name at `from` in the message that spans `start` to `end`. A compression pointer must
 * point before the part of the name that it continues, so every walk ends.
 * Throws `MalformedError` on truncation, forward or looping pointers, reserved label types, names too long.
 */
export function readName(bytes: Uint8Array, start: number, end: number, from: number): ReadName {
  let text = '';
  let octets = 1;
  let next = -1;
  let limit = from;
  for (let i = from; ; ) {
    if (i >= end) throw bad('it must end inside the message', i - start);
    const length = bytes[i] as number;
    if (length === 0) return { name: text, next: next < 0 ? i + 1 : next };
    if ((length & POINTER) === POINTER) {
      if (i + 1 >= end) throw bad('its pointer must be inside the message', i - start);
      if (next < 0) next = i + 2;
      const target = start + (get16(bytes, i) & 0x3fff);
      if (target >= limit) throw bad('a compression pointer must point backwards', target - start);
      limit = target;
      i = target;
      continue;
    }
    if (length & POINTER) throw bad('label types 01 and 10 are reserved', length);
    if (i + 1 + length > end) throw bad('its label must end inside the message', i - start);
    octets += 1 + length;
    if (octets > MAX_NAME) throw bad(`it must have at most ${MAX_NAME} octets`, octets);
    text += (text === '' ? '' : '.') + labelText(bytes, i + 1, length);
    i += 1 + length;
  }
}

function bad(rule: string, value: number): MalformedError {
  return new MalformedError(`Cannot decode DNS name as ${rule}: current value is ${value}`);
}

function labelText(bytes: Uint8Array, at: number, length: number): string {
  let text = '';
  for (let i = at; i < at + length; i++) {
    const byte = bytes[i] as number;
    if (byte === 0x2e || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`;
    else if (byte > 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\${byte.toString().padStart(3, '0')}`;
  }
  return text;
}

/**
 * The octets of a name, uncompressed. One final dot is allowed.
 * Throws RangeError by rule: empty labels, labels above 63 and names above 255 octets, bytes above 255.
 */
export function encodeName(name: string): Uint8Array {
  const refuse = (rule: string, value: number | string): never => {
    throw new RangeError(`Cannot encode host name "${name}" as ${rule}: current value is ${value}`);
  };
  const labels = splitLabels(name, refuse);
  const octets: number[] = [];
  for (const label of labels) {
    if (label.length === 0) refuse('a label must not be empty', '""');
    if (label.length > MAX_LABEL) refuse(`a label must have at most ${MAX_LABEL} octets`, label.length);
    octets.push(label.length, ...label);
  }
  octets.push(0);
  if (octets.length > MAX_NAME) refuse(`it must have at most ${MAX_NAME} octets`, octets.length);
  return Uint8Array.from(octets);
}

function splitLabels(name: string, refuse: (rule: string, value: number | string) => never): number[][] {
  if (name === '' || name === '.') return [];
  const labels: number[][] = [[]];
  for (let i = 0; i < name.length; i++) {
    let code = name.charCodeAt(i);
    if (code === 0x2e) {
      if (i + 1 < name.length) labels.push([]);
      else if (labels.at(-1)?.length === 0) refuse('a label must not be empty', '""');
      continue;
    }
    if (code === 0x5c) {
      const decimal = /^\d{3}/.exec(name.slice(i + 1, i + 4))?.[0];
      code = decimal === undefined ? name.charCodeAt(i + 1) : Number.parseInt(decimal, 10);
      i += decimal === undefined ? 1 : 3;
    }
    if (!(code <= 0xff)) refuse('it must be ASCII (write international names in their xn-- form)', name);
    labels.at(-1)?.push(code);
  }
  return labels;
}

/** True when two names are equal: case does not count, nor does a final dot [RFC 1035 §2.3.3]. */
export function sameName(a: string, b: string): boolean {
  return canonicalName(a) === canonicalName(b);
}

/** Lower case (ASCII), without a final dot: a key for maps. */
export function canonicalName(name: string): string {
  const lower = name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  return lower.endsWith('.') && !lower.endsWith('\\.') ? lower.slice(0, -1) : lower;
}
