/** What of a test's directory goes into a lab's container, and the command line there. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { commandOf, filesOf } from './options.ts';

let dir: string;
let script: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'l4lab-options-'));
  script = join(dir, 'net.cfg');
  writeFileSync(script, '-- nothing\n');
});
afterEach(() => rmSync(dir, { recursive: true }));

it('filesOf() takes the files beside the script, and what links to files', () => {
  writeFileSync(join(dir, 'io.vbus'), '');
  mkdirSync(join(dir, 'more'));
  symlinkSync('io.vbus', join(dir, 'linked.vbus'));
  symlinkSync('more', join(dir, 'linked'));
  symlinkSync('nowhere', join(dir, 'dangling'));
  const files = filesOf({ script, files: { 'io.vbus': 'mine', 'page.html': Buffer.of(1) } });
  expect(files.sort((a, b) => a.target.localeCompare(b.target))).toEqual([
    { target: '/lab/io.vbus', content: 'mine' },
    { target: '/lab/linked.vbus', source: join(dir, 'linked.vbus') },
    { target: '/lab/net.cfg', source: script },
    { target: '/lab/page.html', content: Buffer.of(1) },
  ]);
});

it('filesOf() refuses what is no script, and a directory that is there by accident', () => {
  expect(() => filesOf({ script: dir })).toThrow(/its script must be a file: current value is/);
  const film = join(dir, 'film');
  writeFileSync(film, '');
  truncateSync(film, 2 ** 30);
  expect(() => filesOf({ script })).toThrow(/must not exceed 67108864 bytes: they have 10737/);
});

it('commandOf() has an option of l4lab run for each of ours', () => {
  const command = commandOf({
    script,
    args: ['one'],
    hosts: { mirror: '10.0.2.100' },
    forwards: { '10.0.2.100:80': 'web:8080' },
    expose: ['10.0.2.15:80', '10.0.2.15:81'],
    record: true,
    options: ['--exit'],
  });
  expect(command.join(' ')).toBe(
    'run --json --nic e1000,record=/tmp/wire.pcapng --host mirror=10.0.2.100' +
      ' --guest-forward 10.0.2.100:80=web:8080 --host-forward 0.0.0.0:20000=10.0.2.15:80' +
      ' --host-forward 0.0.0.0:20001=10.0.2.15:81 --exit /lab/net.cfg one',
  );
  expect(() => commandOf({ script, record: true, nics: ['none'] })).toThrow(/as it has no NIC/);
});
