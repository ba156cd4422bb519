import { describe, expect, it } from 'vitest';
import { hostsAddresses } from './hosts.ts';
import { parseResolvConf } from './resolv_conf.ts';

describe('parseResolvConf()', () => {
  it('reads servers, search list and options', () => {
    const conf = parseResolvConf(
      'nameserver 10.0.2.3\n# comment\nnameserver\tfe80::2 ; rest\ndomain a.example\nsearch b.example c.example\noptions timeout:2 attempts:4 ndots:3 rotate\n',
    );
    expect(conf).toEqual({
      servers: ['10.0.2.3', 'fe80::2'],
      search: ['b.example', 'c.example'],
      timeoutMs: 2000,
      attempts: 4,
      ndots: 3,
      warnings: [],
    });
  });

  it('has the defaults of the libc: 5 s, 3 attempts', () => {
    expect(parseResolvConf('')).toEqual({
      servers: [],
      search: [],
      timeoutMs: 5000,
      attempts: 3,
      ndots: 1,
      warnings: [],
    });
  });

  it('bounds absurd options', () => {
    expect(parseResolvConf('options timeout:0 attempts:0\noptions ndots:99')).toMatchObject({
      timeoutMs: 1000,
      attempts: 1,
      ndots: 15,
    });
  });

  it('cuts lines after 127 characters and says so, and names bad servers', () => {
    const { servers, search, warnings } = parseResolvConf(
      `search ${'a'.repeat(120)}bcd\nnameserver 10.0.2\nnameserver 1.2.3.4`,
    );
    expect([search[0]?.length, servers]).toEqual([120, ['1.2.3.4']]);
    expect(warnings).toEqual([
      'resolv.conf:1: the line is cut after 127 characters: it has 130',
      'resolv.conf:2: nameserver must be an IP address: current value is "10.0.2"',
    ]);
  });
});

describe('hostsAddresses()', () => {
  it('finds names and aliases in any case', () => {
    const text = '127.0.0.1 localhost\n10.0.2.7\tFtp.example ftp # mirror\n::1 ftp\nbad ftp\n';
    expect(hostsAddresses(text, 'FTP')).toEqual(['10.0.2.7', '::1']);
    expect(hostsAddresses(text, 'ftp.example.')).toEqual(['10.0.2.7']);
    expect(hostsAddresses(text, 'mirror')).toEqual([]);
  });
});
