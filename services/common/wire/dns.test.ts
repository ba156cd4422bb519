import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import {
  DNS_CLASS_IN,
  DNS_FLAG,
  DNS_TYPE,
  type DnsMessage,
  decodeDns,
  encodeDns,
  opcodeOf,
  rcodeOf,
} from './dns.ts';
import { canonicalName, encodeName, readName, sameName } from './dns_name.ts';
import { MalformedError } from './malformed.ts';

const fromHex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
const header = (counts: string) => `abcd 8180 ${counts}`;

/** Answer for deb.de: question, CNAME to x.deb.de (compressed), A. */
const ANSWER = fromHex(`${header('0001 0002 0000 0000')}
  03646562 026465 00 0001 0001
  c00c 0005 0001 0000003c 0004 0178 c00c
  c024 0001 0001 0000003c 0004 0a000202`);

describe('decodeDns()', () => {
  it('reads an answer with compressed names', () => {
    const { id, flags, questions, answers } = decodeDns(ANSWER, 0, ANSWER.length);
    expect([id, rcodeOf(flags), opcodeOf(flags), flags & DNS_FLAG.QR]).toEqual([0xabcd, 0, 0, DNS_FLAG.QR]);
    expect(questions).toEqual([{ name: 'deb.de', type: DNS_TYPE.A, class: DNS_CLASS_IN }]);
    expect(answers[0]).toMatchObject({ name: 'deb.de', type: DNS_TYPE.CNAME, ttl: 60, target: 'x.deb.de' });
    expect(answers[1]).toEqual({
      name: 'x.deb.de',
      type: 1,
      class: 1,
      ttl: 60,
      data: Uint8Array.of(10, 0, 2, 2),
    });
  });

  it('refuses every truncation of it with MalformedError', () => {
    for (let length = 0; length < ANSWER.length; length++) {
      expect(() => decodeDns(ANSWER, 0, length), `${length}`).toThrow(MalformedError);
    }
  });

  it('reads relative to the message, not to the buffer', () => {
    const bytes = new Uint8Array(ANSWER.length + 9).fill(0xc0);
    bytes.set(ANSWER, 5);
    expect(decodeDns(bytes, 5, ANSWER.length)).toEqual(decodeDns(ANSWER, 0, ANSWER.length));
  });

  it('refuses counts that the message cannot hold without walking them all', () => {
    expect(() => decodeDns(fromHex(header('ffff ffff ffff ffff')), 0, 12)).toThrow(MalformedError);
  });

  it('throws MalformedError and nothing else, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(50), (noise, at) => {
        const bytes = new Uint8Array(ANSWER.length + 40);
        bytes.set(ANSWER);
        bytes.set(noise, at);
        try {
          decodeDns(bytes, 0, bytes.length);
        } catch (err) {
          expect(err).toBeInstanceOf(MalformedError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('encodeDns()', () => {
  it('writes what decodeDns() reads, with the repeated first name compressed', () => {
    const name = 'ftp.de.debian.org';
    const record = { name, type: DNS_TYPE.A, class: 1, ttl: 5, data: Uint8Array.of(10, 0, 2, 100) };
    const message: DnsMessage = {
      id: 7,
      flags: DNS_FLAG.QR | DNS_FLAG.AA,
      questions: [{ name, type: DNS_TYPE.A, class: 1 }],
      answers: [record, { ...record, data: Uint8Array.of(10, 0, 2, 101) }],
      authorities: [],
      additionals: [{ name: '', type: DNS_TYPE.OPT, class: 1232, ttl: 0, data: new Uint8Array() }],
    };
    const bytes = new Uint8Array(200).fill(0xa5);
    const length = encodeDns(message, bytes, 3);
    expect(length).toBe(12 + 19 + 4 + 2 * 16 + 11);
    expect([bytes[2], bytes[3 + length]]).toEqual([0xa5, 0xa5]);
    expect(decodeDns(bytes, 3, length)).toEqual(message);
    expect(() => encodeDns(message, new Uint8Array(length - 1), 0)).toThrow(/must fit the buffer/);
  });
});

describe('readName()', () => {
  const read = (text: string, from: number) => {
    const bytes = fromHex(text);
    return readName(bytes, 0, bytes.length, from);
  };

  it('follows chains of pointers backwards and goes on behind the first', () => {
    expect(read('0161 00 0162 c000 0163 c003 ff', 7)).toEqual({ name: 'c.b.a', next: 11 });
  });

  it('refuses pointers to themselves, forward and in a loop', () => {
    expect(() => read('c000', 0)).toThrow(/must point backwards: current value is 0/);
    expect(() => read('c002 0161 00', 0)).toThrow(/must point backwards/);
    expect(() => read('0161 c000', 0)).toThrow(/must point backwards/);
    expect(() => read('0161 c006 0162 c000', 4)).toThrow(/must point backwards/);
  });

  it('refuses reserved label types, open ends and names above 255 octets', () => {
    expect(() => read('41 00', 0)).toThrow(/reserved/);
    expect(() => read('81 00', 0)).toThrow(/reserved/);
    expect(() => read('03 6162', 0)).toThrow(/must end inside/);
    expect(() => read('0161', 0)).toThrow(/must end inside/);
    expect(() => read('c0', 0)).toThrow(/pointer must be inside/);
    const label = `3f${'61'.repeat(63)}`;
    expect(read(`${label.repeat(3)}3d${'61'.repeat(61)}00`, 0).name).toHaveLength(253);
    expect(() => read(`${label.repeat(3)}3e${'61'.repeat(62)}00`, 0)).toThrow(
      /at most 255 octets: current value is 256/,
    );
  });

  it('escapes bytes so that no label passes for two', () => {
    expect(read('03 612e62 01 5c 02 00ff 00', 0).name).toBe('a\\.b.\\\\.\\000\\255');
  });
});

describe('encodeName()', () => {
  it('is the inverse of readName()', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 63 }), { maxLength: 3 }), (labels) => {
        const octets = Uint8Array.from([...labels.flatMap((label) => [label.length, ...label]), 0]);
        expect(encodeName(readName(octets, 0, octets.length, 0).name)).toEqual(octets);
      }),
    );
  });

  it('refuses names that break a limit of [RFC 1035 §2.3.4]', () => {
    expect(encodeName('a.')).toEqual(encodeName('a'));
    expect(encodeName('.')).toEqual(Uint8Array.of(0));
    expect(() => encodeName('a..b')).toThrow(/must not be empty/);
    expect(() => encodeName('.a')).toThrow(/must not be empty/);
    expect(() => encodeName('a'.repeat(64))).toThrow(/at most 63 octets: current value is 64/);
    expect(() => encodeName(`${'a'.repeat(63)}.`.repeat(4))).toThrow(
      /at most 255 octets: current value is 257/,
    );
    expect(() => encodeName('bücher.example\u0142')).toThrow(/xn--/);
    expect(() => encodeName('a\\')).toThrow(/xn--/);
  });
});

it('sameName() ignores case and a final dot', () => {
  expect(sameName('FTP.de.Debian.org.', 'ftp.DE.debian.ORG')).toBe(true);
  expect(sameName('a.b', 'a.c')).toBe(false);
  expect(canonicalName('A\\.')).toBe('a\\.');
});
