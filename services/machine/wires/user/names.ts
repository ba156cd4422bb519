/**
 * Fixed host names (`--host NAME=IP`): the DNS answers that we give ourselves.
 *
 * A name that is fixed here exists with exactly its addresses: other record types get an empty answer, so that no
 * second opinion comes from the host's resolver. Every other query is none of our business.
 */

import { u32Option } from '#common/wire/dhcp_options';
import {
  DNS_CLASS_ANY,
  DNS_CLASS_IN,
  DNS_FLAG,
  DNS_RCODE,
  DNS_TYPE,
  DNS_UDP_SIZE,
  type DnsMessage,
  type DnsRecord,
  decodeDns,
  encodeDns,
  opcodeOf,
} from '#common/wire/dns';
import { canonicalName, encodeName } from '#common/wire/dns_name';
import { parseIpv4 } from '#common/wire/ipv4';
import { parseIpv6 } from '#common/wire/ipv6';
import { MalformedError } from '#common/wire/malformed';

/** Seconds that a guest may remember a fixed name. */
const TTL = 60;
/** What we say we can take over UDP, in answer to an EDNS query [RFC 6891 §6.2.5]. */
const EDNS_SIZE = 1232;

interface Address {
  readonly type: number;
  readonly data: Uint8Array;
}

export class FixedNames {
  readonly #names = new Map<string, readonly Address[]>();

  /** Name to its IPv4 and IPv6 literals. Throws by rule on a name or address that is none. */
  constructor(hosts: ReadonlyMap<string, readonly string[]>) {
    for (const [name, literals] of hosts) {
      encodeName(name);
      this.#names.set(
        canonicalName(name),
        literals.map((literal) => addressOf(name, literal)),
      );
    }
  }

  /**
   * Answers the query in `length` bytes at `at` if it asks for one fixed name: writes the answer to `out` at `outAt`
   * and returns its length. 0: not ours (or no well-formed query).
   */
  answer(bytes: Uint8Array, at: number, length: number, out: Uint8Array, outAt: number): number {
    if (this.#names.size === 0) return 0;
    const query = decodeQuery(bytes, at, length);
    const question = query?.questions[0];
    if (query === undefined || question === undefined) return 0;
    const addresses = this.#names.get(canonicalName(question.name));
    if (addresses === undefined) return 0;
    if (question.class !== DNS_CLASS_IN && question.class !== DNS_CLASS_ANY) return 0;
    const answers = addresses
      .filter(({ type }) => question.type === type || question.type === DNS_TYPE.ANY)
      .map(
        ({ type, data }): DnsRecord => ({ name: question.name, type, class: DNS_CLASS_IN, ttl: TTL, data }),
      );
    return encodeReply(query, DNS_FLAG.AA, DNS_RCODE.NOERROR, answers, out, outAt);
  }
}

function addressOf(name: string, literal: string): Address {
  const v4 = parseIpv4(literal);
  if (v4 !== undefined) return { type: DNS_TYPE.A, data: u32Option(v4) };
  const v6 = parseIpv6(literal);
  if (v6 !== undefined) return { type: DNS_TYPE.AAAA, data: v6 };
  throw new Error(
    `Cannot fix host name "${name}" as its address must be an IPv4 or IPv6 address: current value is ${literal}`,
  );
}

/** The standard query with one question in these bytes; undefined when it is anything else. */
export function decodeQuery(bytes: Uint8Array, at: number, length: number): DnsMessage | undefined {
  try {
    const query = decodeDns(bytes, at, length);
    const standard = (query.flags & DNS_FLAG.QR) === 0 && opcodeOf(query.flags) === 0;
    return standard && query.questions.length === 1 ? query : undefined;
  } catch (err) {
    if (err instanceof MalformedError) return undefined;
    throw err;
  }
}

/** Writes SERVFAIL for `query`. Returns its length. */
export function encodeServfail(query: DnsMessage, out: Uint8Array, outAt: number): number {
  return encodeReply(query, 0, DNS_RCODE.SERVFAIL, [], out, outAt);
}

function encodeReply(
  query: DnsMessage,
  flags: number,
  rcode: number,
  answers: readonly DnsRecord[],
  out: Uint8Array,
  outAt: number,
): number {
  const opt = query.additionals.find(({ type }) => type === DNS_TYPE.OPT);
  const reply: DnsMessage = {
    id: query.id,
    flags: DNS_FLAG.QR | DNS_FLAG.RA | (query.flags & (DNS_FLAG.RD | DNS_FLAG.CD)) | flags | rcode,
    questions: query.questions,
    answers,
    authorities: [],
    additionals:
      opt === undefined
        ? []
        : [{ name: '', type: DNS_TYPE.OPT, class: EDNS_SIZE, ttl: 0, data: new Uint8Array() }],
  };
  // Too many addresses for a datagram: leave some out. TC would send the guest to the host's resolver by TCP.
  const room = out.subarray(0, outAt + DNS_UDP_SIZE);
  for (let count = answers.length; count > 0; count--) {
    try {
      return encodeDns({ ...reply, answers: answers.slice(0, count) }, room, outAt);
    } catch (err) {
      if (!(err instanceof RangeError)) throw err;
    }
  }
  return encodeDns({ ...reply, answers: [] }, out, outAt);
}
