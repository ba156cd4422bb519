/** Wires in a network namespace of their own: TAP, and a host without a network. Needs the right to make namespaces. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { inNetns, netnsRefusal } from './testing/netns.ts';

const refusal = netnsRefusal();
if (refusal !== undefined) console.warn(`Skipped the tests of tap and of a host without network: ${refusal}`);

describe.skipIf(refusal !== undefined)('in a network namespace', () => {
  it('tap: a new interface carries ARP, ping and a page, and is gone afterwards', () => {
    const result = inNetns('tap') as { bytes: number; lines: string[] };
    expect(result).toMatchObject({ echoed: 1000, up: true, left: false });
    expect(result.bytes).toBeGreaterThan(300_000);
    expect(result.lines).toEqual([
      expect.stringContaining('Wire "tap" is interface lab0; give it an address with'),
    ]);
  });

  it('tap: with address= the interface has it, and its network', () => {
    expect(inNetns('tapAddress')).toEqual({
      echoed: 1000,
      routes: expect.stringContaining('10.0.2.0/24 dev lab0'),
      lines: [expect.stringContaining('Wire "tap" is interface lab0 with 10.0.2.2/24')],
    });
  });

  it('tap: drops frames that are too long for it instead of cutting them, and says so once', () => {
    expect(inNetns('tapLong')).toEqual({
      got: [42 + 1472, 42 + 2003, 42 + 7],
      cut: 0,
      lines: [
        expect.stringContaining('Wire "tap" is interface lab0'),
        expect.stringMatching(
          /warn: Interface lab0 sends frames above 2045 bytes, which are dropped.*mtu 1500/,
        ),
      ],
    });
  });

  it('tap: says so when its interface is deleted, and does not spin', () => {
    expect(inNetns('tapDeleted')).toEqual({
      awake: 0,
      lines: [
        expect.stringContaining('Wire "tap" is interface lab0'),
        expect.stringMatching(/error: Interface lab0 is gone: was it deleted/),
      ],
    });
  });

  it('user: goes on whatever a guest sends, and takes its sockets along', () => {
    const result = inNetns('hostile') as { accepted: number; opened: number; left: number };
    expect(result).toMatchObject({ left: 0 });
    expect(result.accepted).toBeGreaterThan(100);
    expect(result.opened).toBeGreaterThan(100);
  });

  it('tap: without CAP_NET_ADMIN it names what is missing and what to do', () => {
    expect(inNetns('denied')).toMatchObject({
      message: expect.stringMatching(
        /Cannot make wire "tap:lab0" as this process must have CAP_NET_ADMIN.*ip tuntap add.*\(EPERM\)/,
      ),
    });
  });

  const FAILED = {
    rcode: 2,
    name: 'www.example.org',
    lines: [expect.stringMatching(/warn: Cannot resolve "www\.example\.org".*--host www\.example\.org=IP/)],
  };

  it('user: answers SERVFAIL at once when the host has no route to its name server', () => {
    withResolvConf('nameserver 192.0.2.53\n', (prelude) => expect(inNetns('dns', prelude)).toEqual(FAILED));
  });

  it('user: answers SERVFAIL at once when the host has no name server', () => {
    withResolvConf('', (prelude) => expect(inNetns('dns', prelude)).toEqual(FAILED));
  });

  it('user: answers SERVFAIL when nothing listens at the name server', () => {
    withResolvConf('nameserver 127.0.0.1\n', (prelude) => expect(inNetns('dns', prelude)).toEqual(FAILED));
  });
});

/** Gives `use` the shell code that puts `text` in the place of /etc/resolv.conf, for that process only. */
function withResolvConf(text: string, use: (prelude: string) => void): void {
  const dir = mkdtempSync(join(tmpdir(), 'l4lab-resolv-'));
  try {
    const path = join(dir, 'resolv.conf');
    writeFileSync(path, text);
    use(`mount --bind ${path} /etc/resolv.conf`);
  } finally {
    rmSync(dir, { recursive: true });
  }
}
