import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { DNS_FLAG, DNS_TYPE, type DnsMessage, decodeDns, encodeDns, rcodeOf } from '#common/wire/dns';
import { decodeQuery, encodeServfail, FixedNames } from './names.ts';

const names = new FixedNames(new Map([['Www.Lab.', ['10.0.2.100', 'fec0::100']]]));

function query(name: string, type: number, fields: Partial<DnsMessage> = {}): Uint8Array {
  const bytes = new Uint8Array(512);
  const message = {
    id: 0xabcd,
    flags: DNS_FLAG.RD,
    answers: [],
    authorities: [],
    additionals: [],
    ...fields,
  };
  return bytes.slice(0, encodeDns({ questions: [{ name, type, class: 1 }], ...message }, bytes, 0));
}

function ask(bytes: Uint8Array, from = names): DnsMessage | undefined {
  const out = new Uint8Array(700).fill(0xa5);
  const length = from.answer(bytes, 0, bytes.length, out, 7);
  expect([out[6], out[7 + Math.max(length, 512)]]).toEqual([0xa5, 0xa5]);
  return length === 0 ? undefined : decodeDns(out, 7, length);
}

describe('FixedNames', () => {
  it('answers with the id, the question as it was written and the addresses of that type', () => {
    const reply = ask(query('wWw.lab', DNS_TYPE.A)) as DnsMessage;
    expect([reply.id, reply.questions[0]?.name]).toEqual([0xabcd, 'wWw.lab']);
    expect(reply.flags).toBe(DNS_FLAG.QR | DNS_FLAG.AA | DNS_FLAG.RD | DNS_FLAG.RA);
    expect(reply.answers).toMatchObject([{ name: 'wWw.lab', data: Uint8Array.of(10, 0, 2, 100) }]);
    expect(ask(query('www.lab', DNS_TYPE.AAAA))?.answers).toHaveLength(1);
    expect(ask(query('www.lab', DNS_TYPE.ANY))?.answers).toHaveLength(2);
    expect(ask(query('www.lab', DNS_TYPE.HTTPS))).toMatchObject({ answers: [] });
  });

  it('leaves other names, classes, answers and opcodes alone', () => {
    expect(ask(query('lab', DNS_TYPE.A))).toBeUndefined();
    expect(ask(query('x.www.lab', DNS_TYPE.A))).toBeUndefined();
    expect(ask(query('www.lab', 1, { questions: [{ name: 'www.lab', type: 1, class: 3 }] }))).toBeUndefined();
    expect(ask(query('www.lab', 1, { flags: DNS_FLAG.QR }))).toBeUndefined();
    expect(ask(query('www.lab', 1, { flags: 2 << 11 }))).toBeUndefined();
    expect(ask(query('www.lab', 1, { questions: [] }))).toBeUndefined();
  });

  it('answers EDNS with EDNS [RFC 6891 §6.1.1]', () => {
    const opt = { name: '', type: DNS_TYPE.OPT, class: 4096, ttl: 0, data: new Uint8Array() };
    expect(ask(query('www.lab', 1, { additionals: [opt] }))?.additionals).toMatchObject([
      { type: DNS_TYPE.OPT },
    ]);
  });

  it('leaves out addresses that do not fit a datagram, without saying truncated', () => {
    const many = Array.from({ length: 60 }, (_, i) => `10.0.3.${i}`);
    const reply = ask(query('many', 1), new FixedNames(new Map([['many', many]]))) as DnsMessage;
    expect(reply.answers.length).toBeGreaterThan(20);
    expect(reply.flags & DNS_FLAG.TC).toBe(0);
  });

  it('refuses names and addresses that are none', () => {
    expect(() => new FixedNames(new Map([['a..b', ['10.0.0.1']]]))).toThrow(/label must not be empty/);
    expect(() => new FixedNames(new Map([['a', ['localhost']]]))).toThrow(
      /must be an IPv4 or IPv6 address: current value is localhost/,
    );
  });

  it('says nothing to noise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(ask(bytes)).toBeUndefined();
      }),
    );
  });
});

it('encodeServfail() repeats the question', () => {
  const bytes = query('a.example', DNS_TYPE.A);
  const out = new Uint8Array(512);
  const reply = decodeDns(out, 0, encodeServfail(decodeQuery(bytes, 0, bytes.length) as DnsMessage, out, 0));
  expect([rcodeOf(reply.flags), reply.id, reply.questions[0]?.name]).toEqual([2, 0xabcd, 'a.example']);
});
