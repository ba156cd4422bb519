// The base image node:22-bookworm-slim: present, pulled, or, on a machine that reaches no image registry,
// a stand-in made of the same Debian release and Node's own binaries. A stand-in is kept as a tar file.
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { arch, homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { debianMirror, install } from './apt.mjs';
import { attempt, EngineError, has, must, say } from './shell.mjs';

export const BASE = 'node:22-bookworm-slim';
const DEBIAN = 'bookworm';
const PACKAGES = ['ca-certificates', 'libstdc++6'];
const NODE_PACKAGE = `node-linux-${arch()}@22`;
const NPM_PACKAGE = 'npm@11';
const PULL_MS = 300_000;
/** Certificates that the machine's owner added: whatever stands between us and the network may need them. */
const OWN_CERTIFICATES = '/usr/local/share/ca-certificates';

const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'l4lab');
const SAVED = join(CACHE, `node-22-bookworm-slim-${arch()}.tar`);

/** Makes the base image be there; returns how: 'present', 'pulled', 'loaded' or 'made'. Throws EngineError. */
export function provideBase() {
  if (attempt('docker', ['image', 'inspect', BASE]).status === 0) return 'present';
  say(`pulling ${BASE}`);
  const pull = attempt('docker', ['pull', '--quiet', BASE], { timeoutMs: PULL_MS });
  if (pull.status === 0) return 'pulled';
  say(`it cannot be pulled (${pull.errors.split('\n')[0]})`);
  if (existsSync(SAVED)) {
    say(`loading the stand-in ${SAVED}`);
    if (attempt('docker', ['load', '--quiet', '--input', SAVED]).status === 0) return 'loaded';
    say('it cannot be loaded: making it anew');
  }
  makeStandIn();
  save();
  return 'made';
}

function makeStandIn() {
  if (!has('mmdebstrap')) install(['mmdebstrap'], `make a stand-in for ${BASE}`);
  const scratch = mkdtempSync(join(tmpdir(), 'l4lab-base-'));
  try {
    const extra = join(scratch, 'extra');
    unpackNode(scratch, extra);
    copyCertificates(extra);
    say(`making a stand-in of Debian ${DEBIAN}, ${NODE_PACKAGE} and ${NPM_PACKAGE}`);
    const tar = join(scratch, 'root.tar');
    must('install Debian', 'mmdebstrap', [
      '--quiet',
      '--variant=minbase',
      `--include=${PACKAGES.join(',')}`,
      `--customize-hook=sync-in ${extra} /`,
      '--customize-hook=chroot "$1" update-ca-certificates',
      '--customize-hook=rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*',
      DEBIAN,
      tar,
      `deb ${debianMirror()} ${DEBIAN} main`,
    ]);
    const changes = [
      'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt',
      'CMD ["node"]',
    ];
    must('import the stand-in', 'docker', ['import', ...changes.flatMap((line) => ['-c', line]), tar, BASE]);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Node and npm as npm's registry has them, laid out as in the official image (/usr/local). */
function unpackNode(scratch, extra) {
  if (!has('npm'))
    throw new EngineError(`Cannot make a stand-in for ${BASE} as npm is missing: install Node's npm`);
  const local = join(extra, 'usr', 'local');
  const modules = join(local, 'lib', 'node_modules');
  mkdirSync(join(local, 'bin'), { recursive: true });
  mkdirSync(modules, { recursive: true });
  for (const name of [NODE_PACKAGE, NPM_PACKAGE]) {
    const packed = must(`download ${name}`, 'npm', ['pack', '--silent', name], { cwd: scratch });
    const file = join(scratch, packed.split('\n').at(-1));
    must(`unpack ${name}`, 'tar', ['-xzf', file, '-C', scratch, '--no-same-owner']);
    const unpacked = join(scratch, 'package');
    if (name === NPM_PACKAGE) renameSync(unpacked, join(modules, 'npm'));
    else renameSync(join(unpacked, 'bin', 'node'), join(local, 'bin', 'node'));
    rmSync(unpacked, { recursive: true, force: true });
  }
  const link = (from, to) => must(`link ${to}`, 'ln', ['-s', from, join(local, 'bin', to)]);
  link('../lib/node_modules/npm/bin/npm-cli.js', 'npm');
  link('../lib/node_modules/npm/bin/npx-cli.js', 'npx');
  must('open the stand-in to all users', 'chmod', ['-R', 'a+rX', extra]);
}

function copyCertificates(extra) {
  if (!existsSync(OWN_CERTIFICATES)) return;
  const target = join(extra, OWN_CERTIFICATES);
  mkdirSync(target, { recursive: true });
  for (const name of readdirSync(OWN_CERTIFICATES)) {
    if (name.endsWith('.crt')) copyFileSync(join(OWN_CERTIFICATES, name), join(target, name));
  }
}

/** A cache that cannot be written costs time, nothing else. */
function save() {
  const { status, errors } = attempt('sh', [
    '-ec',
    'mkdir -p "$1"; docker save --output "$2.$$" "$3"; mv "$2.$$" "$2"',
    'save',
    CACHE,
    SAVED,
    BASE,
  ]);
  say(status === 0 ? `kept it as ${SAVED}` : `it could not be kept as ${SAVED}: ${errors.split('\n')[0]}`);
}
