/**
 * One question to one name server [RFC 1035 §4.2, RFC 5452]: over UDP with a random id and source port, over TCP when the
 * answer is truncated. Whatever does not belong to the question (address, port, id, question) is passed over.
 */
import { randomInt } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { get16 } from '#common/wire/bytes';
import {
  DNS,
  DNS_CLASS_IN,
  DNS_FLAG,
  DNS_PORT,
  type DnsMessage,
  decodeDns,
  encodeDns,
  opcodeOf,
} from '#common/wire/dns';
import { sameName } from '#common/wire/dns_name';
import { formatIpv6, parseIpv6 } from '../address.ts';
import type { SocketHost } from '../connector.ts';
import { NetError } from '../errors.ts';
import { Socket } from '../socket.ts';
import { UdpSocket } from '../udp.ts';

/** Asks `server` once. Resolves with the answer; undefined when none came in time. Rejects with NetError (no route, ...). */
export type Exchange = (
  server: string,
  name: string,
  type: number,
  timeoutMs: number,
) => Promise<DnsMessage | undefined>;

interface NameServer {
  readonly server: string;
  readonly port: number;
}

const MAX_QUERY = 512;
const FIRST_PORT = 49152;
const BIND_TRIES = 16;

/** An `Exchange` over the sockets of `host`. */
export function lwipExchange(host: SocketHost, port = DNS_PORT): Exchange {
  return async (server, name, type, timeoutMs) => {
    const deadline = performance.now() + timeoutMs;
    const query: DnsMessage = {
      id: randomInt(0x10000),
      flags: DNS_FLAG.RD,
      questions: [{ name, type, class: DNS_CLASS_IN }],
      answers: [],
      authorities: [],
      additionals: [],
    };
    const answer = await overUdp(host, { server, port }, query, timeoutMs);
    if (answer === undefined || (answer.flags & DNS_FLAG.TC) === 0) return answer;
    return (await overTcp(host, { server, port }, query, deadline - performance.now())) ?? answer;
  };
}

/** True when `answer` is one to `query`. */
export function answers(answer: DnsMessage, query: DnsMessage): boolean {
  const [asked] = query.questions;
  const [echoed] = answer.questions;
  if (asked === undefined || echoed === undefined || answer.questions.length !== 1) return false;
  return (
    answer.id === query.id &&
    (answer.flags & DNS_FLAG.QR) !== 0 &&
    opcodeOf(answer.flags) === 0 &&
    sameName(asked.name, echoed.name) &&
    asked.type === echoed.type &&
    asked.class === echoed.class
  );
}

function encode(query: DnsMessage): Uint8Array {
  const bytes = new Uint8Array(MAX_QUERY);
  return bytes.subarray(0, encodeDns(query, bytes, 0));
}

/** The decoded answer, undefined when the bytes are none to `query`. */
function decodeAnswer(bytes: Uint8Array, query: DnsMessage): DnsMessage | undefined {
  const answer = decoded(bytes) ?? decoded(withoutRecords(bytes));
  // Malformed: as good as none. The time-out says that nothing usable came.
  return answer && answers(answer, query) ? answer : undefined;
}

function decoded(bytes: Uint8Array): DnsMessage | undefined {
  try {
    return decodeDns(bytes, 0, bytes.length);
  } catch {
    return undefined;
  }
}

/** A truncated answer may end inside a record [RFC 1035 §4.1.1]: of those its header and question are enough. */
function withoutRecords(bytes: Uint8Array): Uint8Array {
  if (bytes.length < DNS.HEADER || (get16(bytes, DNS.FLAGS) & DNS_FLAG.TC) === 0) return new Uint8Array();
  return bytes.slice().fill(0, DNS.ANCOUNT, DNS.HEADER);
}

function bindRandom(socket: UdpSocket): void {
  for (let n = 0; n < BIND_TRIES; n++) {
    try {
      socket.bind(randomInt(FIRST_PORT, 0x10000));
      return;
    } catch (err) {
      if (!(err instanceof NetError) || err.code !== 'EADDRINUSE') throw err;
    }
  }
  socket.bind();
}

function overUdp(
  host: SocketHost,
  { server, port }: NameServer,
  query: DnsMessage,
  timeoutMs: number,
): Promise<DnsMessage | undefined> {
  const socket = new UdpSocket(host);
  host.stack.ref();
  return new Promise<DnsMessage | undefined>((resolve, reject) => {
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    socket.on('message', (data, from) => {
      if (from.port !== port || !sameServer(from.address, server)) return;
      const answer = decodeAnswer(data, query);
      if (answer !== undefined) {
        clearTimeout(timer);
        resolve(answer);
      }
    });
    try {
      bindRandom(socket);
      socket.send(encode(query), port, server);
    } catch (err) {
      clearTimeout(timer);
      reject(err);
    }
  }).finally(() => {
    socket.close();
    host.stack.unref();
  });
}

function sameServer(address: string, server: string): boolean {
  const plain = server.replace(/%.*/, '');
  return address === (isIPv6(plain) ? formatIpv6(parseIpv6(plain)) : plain);
}

/** Two bytes of length, then the message, both ways [RFC 1035 §4.2.2]. */
function overTcp(
  host: SocketHost,
  { server, port }: NameServer,
  query: DnsMessage,
  timeoutMs: number,
): Promise<DnsMessage | undefined> {
  if (timeoutMs <= 0) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const socket = new Socket(host);
    const finish = (answer: DnsMessage | undefined): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => finish(undefined), timeoutMs);
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE()) return;
      finish(decodeAnswer(received.subarray(2, 2 + received.readUInt16BE()), query));
    });
    socket.on('error', () => finish(undefined));
    socket.on('end', () => finish(undefined));
    socket.connect({ host: server, port }, () => {
      const message = encode(query);
      socket.write(Buffer.concat([Buffer.from([message.length >>> 8, message.length & 0xff]), message]));
    });
  });
}
