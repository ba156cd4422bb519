// Debian packages: what the machine's own apt is set up for decides where they come from.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { attempt, EngineError, has, must, say } from './shell.mjs';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** Another apt may be at work, as on a machine that has just been started; a download may fail. */
const PATIENT = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];

/** Throws EngineError unless packages can be installed here. `purpose` completes "Cannot ...". */
export function requireApt(purpose) {
  if (!has('apt-get'))
    throw new EngineError(`Cannot ${purpose} as this machine has no apt-get: install it by hand`);
  if (process.getuid() !== 0)
    throw new EngineError(`Cannot ${purpose} as that needs root: install it by hand`);
}

/** Installs what is missing. Services that a package brings are not started (RUNLEVEL, policy-rc.d). */
export function install(packages, purpose) {
  requireApt(purpose);
  say(`installing Debian packages: ${packages.join(' ')}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const args = [...PATIENT, 'install', '-y', '-qq', '--no-install-recommends', ...packages];
  if (attempt('apt-get', args, { env }).status === 0) return;
  must('refresh the package lists', 'apt-get', [...PATIENT, 'update', '-qq'], { env });
  must(`install ${packages.join(' ')}`, 'apt-get', args, { env });
}

/** Address of the Debian archive that this machine uses. Throws EngineError on machines without one. */
export function debianMirror() {
  const format = '$(LABEL) $(REPO_URI)';
  const targets = must('read the sources of apt', 'apt-get', [
    'indextargets',
    '--format',
    format,
    'Created-By: Packages',
  ]);
  const debian = targets.split('\n').find((line) => line.startsWith('Debian http'));
  if (!debian) {
    throw new EngineError(
      'Cannot get packages of Debian as none of the sources of apt is a Debian archive that has been read: run apt-get update',
    );
  }
  return debian.slice('Debian '.length);
}

/**
 * Downloads one package of another Debian release into `dir` without touching the machine's own package
 * lists: apt gets directories and a source of its own. Returns the path of the .deb file.
 */
export function downloadFrom(release, name, dir) {
  for (const part of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(join(dir, part), { recursive: true });
  const sources = join(dir, 'sources.list');
  writeFileSync(sources, `deb [signed-by=${KEYRING}] ${debianMirror()} ${release} main\n`);
  writeFileSync(join(dir, 'status'), '');
  const options = [
    ['Dir::Etc::sourcelist', sources],
    ['Dir::Etc::sourceparts', '-'],
    ['Dir::State::lists', join(dir, 'lists')],
    ['Dir::State::status', join(dir, 'status')],
    ['Dir::Cache', join(dir, 'cache')],
    ['APT::Sandbox::User', 'root'],
  ].flatMap(([option, value]) => ['-o', `${option}=${value}`]);
  options.push(...PATIENT);
  must(`read the package list of Debian ${release}`, 'apt-get', [...options, 'update', '-qq']);
  must(`download ${name} of Debian ${release}`, 'apt-get', [...options, 'download', '-qq', name], {
    cwd: dir,
  });
  const file = must(`find the download of ${name}`, 'find', [
    dir,
    '-maxdepth',
    '1',
    '-name',
    `${name}_*.deb`,
  ]);
  return file.split('\n')[0];
}
