// `npm start`: sets up what is missing, then runs the documented example "Networking with curl" offline.
// A local web server stands for the Debian mirror; the script of the lab is run unchanged.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
await setUp();
const { formatLog } = await import('../../dist/services/common/obs/log_record.js');
const { eachLine } = await import('../../dist/services/cli/lines.js');

const { hasColors } = await import('../../dist/services/cli/colors.js');

const colored = hasColors(process.stdout);
const web = spawn(process.execPath, [join(root, 'dist/services/web/main.js')], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const [listening] = await once(createInterface({ input: web.stdout }), 'line');
const port = listening.split(':').at(-1);

const args = [
  'run',
  'deploy/labs/curl/curl.cfg',
  '--host',
  'ftp.de.debian.org=10.0.2.100',
  '--guest-forward',
  `10.0.2.100:80=127.0.0.1:${port}`,
  '--wait-for',
  'curl',
];
console.log(`$ ./l4lab ${args.join(' ')}\n`);
const begun = performance.now();
const lab = spawn(process.execPath, [join(root, 'l4lab'), ...args, '--json'], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'inherit'],
});
process.on('SIGINT', () => {});

const seen = { processes: 0, bytes: 0, firstByte: 0 };
await eachLine(lab.stdout, (line) => {
  const record = JSON.parse(line);
  if (record.event?.kind === 'start') {
    seen.processes += 1;
    console.log(
      `          starting ${record.task} (pid ${record.event.pid}): ${record.event.argv.join(' ')}`,
    );
  }
  if (record.event) return;
  if (record.task === 'curl' && record.text.startsWith('<!DOCTYPE'))
    seen.firstByte = performance.now() - begun;
  if (seen.firstByte > 0 && record.task === 'curl') seen.bytes += Buffer.byteLength(record.text) + 1;
  console.log(formatLog(record, colored));
});
if (lab.exitCode === null) await once(lab, 'exit');
web.kill('SIGTERM');

const status = lab.exitCode ?? 1;
if (status === 0) {
  console.log(`\n${seen.processes} processes: the machine, ned, and what the script started`);
  console.log(`${seen.bytes} bytes of page through lwIP, l4vio_switch, ixl and the 82540EM`);
  console.log(`${(seen.firstByte / 1000).toFixed(2)} s from start to first byte`);
}
process.exitCode = status;
