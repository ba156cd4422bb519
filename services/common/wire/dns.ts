/**
 * DNS messages [RFC 1035 §4]: encode and decode, for the stub resolver and for the wire that answers it.
 *
 * Whole messages as values; everything from outside is bounded: each record takes at least 11 octets
 * of the message, so the counts in the header cannot make us allocate more than the message is long.
 */

import { get16, get32, put16, put32 } from './bytes.ts';
import { encodeName, readName } from './dns_name.ts';
import { MalformedError } from './malformed.ts';

export const DNS_PORT = 53;
/** Longest message over UDP without EDNS [RFC 1035 §4.2.1]. */
export const DNS_UDP_SIZE = 512;

/** Byte offsets in the header [RFC 1035 §4.1.1]. */
export const DNS = { ID: 0, FLAGS: 2, QDCOUNT: 4, ANCOUNT: 6, NSCOUNT: 8, ARCOUNT: 10, HEADER: 12 } as const;

/** Bits of the flags word; the opcode is bits 11..14, the response code bits 0..3. */
export const DNS_FLAG = {
  QR: 0x8000,
  AA: 0x0400,
  TC: 0x0200,
  RD: 0x0100,
  RA: 0x0080,
  AD: 0x0020,
  CD: 0x0010,
} as const;

/** Response codes [RFC 1035 §4.1.1]. */
export const DNS_RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

/** Record types [RFC 1035 §3.2.2, RFC 3596, RFC 6891, RFC 9460]. */
export const DNS_TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  HTTPS: 65,
  ANY: 255,
} as const;

export const DNS_CLASS_IN = 1;
export const DNS_CLASS_ANY = 255;

export interface DnsQuestion {
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

export interface DnsRecord extends DnsQuestion {
  /** Seconds. */
  readonly ttl: number;
  /** The record's data as it stands in the message; names inside may be compressed. */
  readonly data: Uint8Array;
  /** CNAME, NS and PTR: the name in `data`, decompressed. */
  readonly target?: string;
}

export interface DnsMessage {
  readonly id: number;
  /** The whole flags word: `DNS_FLAG` bits, opcode, response code. */
  readonly flags: number;
  readonly questions: readonly DnsQuestion[];
  readonly answers: readonly DnsRecord[];
  readonly authorities: readonly DnsRecord[];
  readonly additionals: readonly DnsRecord[];
}

/** Response code (0..15) of a flags word. */
export function rcodeOf(flags: number): number {
  return flags & 0xf;
}

/** Kind of query (0 is a standard query) of a flags word. */
export function opcodeOf(flags: number): number {
  return (flags >>> 11) & 0xf;
}

/**
 * Decodes the message in `length` bytes from `at` (the UDP payload). Throws `MalformedError` with the reason.
 * A truncated answer (TC) must still be whole up to its counts.
 */
export function decodeDns(bytes: Uint8Array, at: number, length: number): DnsMessage {
  if (length < DNS.HEADER) {
    throw new MalformedError(
      `Cannot decode DNS message as it must have at least ${DNS.HEADER} bytes: current value is ${length}`,
    );
  }
  const reader = new Reader(bytes, at, length);
  return {
    id: get16(bytes, at + DNS.ID),
    flags: get16(bytes, at + DNS.FLAGS),
    questions: reader.questions(get16(bytes, at + DNS.QDCOUNT)),
    answers: reader.records(get16(bytes, at + DNS.ANCOUNT)),
    authorities: reader.records(get16(bytes, at + DNS.NSCOUNT)),
    additionals: reader.records(get16(bytes, at + DNS.ARCOUNT)),
  };
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #end: number;
  #at: number;

  constructor(bytes: Uint8Array, start: number, length: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = start + length;
    this.#at = start + DNS.HEADER;
  }

  questions(count: number): DnsQuestion[] {
    const questions: DnsQuestion[] = [];
    for (let n = 0; n < count; n++) questions.push(this.#question('question', 4));
    return questions;
  }

  records(count: number): DnsRecord[] {
    const records: DnsRecord[] = [];
    for (let n = 0; n < count; n++) records.push(this.#record());
    return records;
  }

  #question(what: string, fixed: number): DnsQuestion {
    const { name, next } = readName(this.#bytes, this.#start, this.#end, this.#at);
    if (next + fixed > this.#end) {
      throw new MalformedError(
        `Cannot decode DNS ${what} "${name}" as it must end inside the message: current end is ${next + fixed - this.#start}`,
      );
    }
    this.#at = next + 4;
    return { name, type: get16(this.#bytes, next), class: get16(this.#bytes, next + 2) };
  }

  #record(): DnsRecord {
    const head = this.#question('record', 10);
    const ttl = get32(this.#bytes, this.#at);
    const size = get16(this.#bytes, this.#at + 4);
    const data = this.#at + 6;
    if (data + size > this.#end) {
      throw new MalformedError(
        `Cannot decode DNS record "${head.name}" as its data must end inside the message: current length is ${size}`,
      );
    }
    this.#at = data + size;
    // [RFC 2181 §8] A ttl with the top bit set counts as 0.
    const record = { ...head, ttl: ttl > 0x7fffffff ? 0 : ttl, data: this.#bytes.slice(data, data + size) };
    if (head.type !== DNS_TYPE.CNAME && head.type !== DNS_TYPE.NS && head.type !== DNS_TYPE.PTR)
      return record;
    return { ...record, target: readName(this.#bytes, this.#start, data + size, data).name };
  }
}

/**
 * Encodes `message` at `at`. Returns its length. The first question's name is compressed where a record repeats
 * it. Throws RangeError when a name breaks a limit or the message does not fit `bytes`.
 */
export function encodeDns(message: DnsMessage, bytes: Uint8Array, at: number): number {
  const { questions, answers, authorities, additionals } = message;
  const writer = new Writer(bytes, at);
  writer.room(DNS.HEADER);
  put16(bytes, at + DNS.ID, message.id);
  put16(bytes, at + DNS.FLAGS, message.flags);
  put16(bytes, at + DNS.QDCOUNT, questions.length);
  put16(bytes, at + DNS.ANCOUNT, answers.length);
  put16(bytes, at + DNS.NSCOUNT, authorities.length);
  put16(bytes, at + DNS.ARCOUNT, additionals.length);
  writer.at = at + DNS.HEADER;
  for (const question of questions) writer.question(question);
  for (const record of [...answers, ...authorities, ...additionals]) writer.record(record);
  return writer.at - at;
}

class Writer {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  #first: string | undefined;
  at: number;

  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.at = start;
  }

  room(size: number): void {
    if (this.at + size <= this.#bytes.length) return;
    throw new RangeError(
      `Cannot encode DNS message as it must fit the buffer: current room is ${this.#bytes.length - this.#start}`,
    );
  }

  question(question: DnsQuestion): void {
    this.#name(question.name);
    this.room(4);
    put16(this.#bytes, this.at, question.type);
    put16(this.#bytes, this.at + 2, question.class);
    this.at += 4;
  }

  record(record: DnsRecord): void {
    this.question(record);
    const data = record.target === undefined ? record.data : encodeName(record.target);
    this.room(6 + data.length);
    put32(this.#bytes, this.at, record.ttl);
    put16(this.#bytes, this.at + 4, data.length);
    this.at += 6;
    this.#octets(data);
  }

  #name(name: string): void {
    if (name !== '' && name === this.#first) {
      this.room(2);
      put16(this.#bytes, this.at, 0xc000 | DNS.HEADER);
      this.at += 2;
      return;
    }
    if (this.at === this.#start + DNS.HEADER) this.#first = name;
    this.#octets(encodeName(name));
  }

  #octets(octets: Uint8Array): void {
    this.room(octets.length);
    this.#bytes.set(octets, this.at);
    this.at += octets.length;
  }
}
