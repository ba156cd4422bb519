// docker compose v2: used as it is where there is one, else the plugin of Debian's next release is
// unpacked into a Docker configuration directory of ours (Debian 12 has only the old docker-compose).
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { downloadFrom, requireApt } from './apt.mjs';
import { STATE } from './daemon.mjs';
import { attempt, must, say } from './shell.mjs';

const RELEASE = 'trixie';
const PACKAGE = 'docker-compose';
const IN_PACKAGE = 'usr/libexec/docker/cli-plugins/docker-compose';

/** Docker configuration that holds our plugin; for DOCKER_CONFIG. */
export const CONFIG = join(STATE, 'config');
const PLUGIN = join(CONFIG, 'cli-plugins', 'docker-compose');

/** Environment variables that a caller of docker needs so that `docker compose` works. */
export function environment() {
  return existsSync(PLUGIN) ? { DOCKER_CONFIG: CONFIG } : {};
}

/** Version of compose v2, undefined when there is none. */
export function composeVersion() {
  const { status, output } = attempt('docker', ['compose', 'version', '--short'], { env: environment() });
  return status === 0 ? output : undefined;
}

/** Makes `docker compose` work; returns its version. Throws EngineError. */
export function installCompose() {
  const present = composeVersion();
  if (present) return present;
  requireApt('install docker compose v2');
  say(`fetching ${PACKAGE} of Debian ${RELEASE}`);
  const scratch = mkdtempSync(join(tmpdir(), 'l4lab-compose-'));
  try {
    const file = downloadFrom(RELEASE, PACKAGE, scratch);
    must(`unpack ${PACKAGE}`, 'dpkg-deb', ['-x', file, join(scratch, 'root')]);
    mkdirSync(join(CONFIG, 'cli-plugins'), { recursive: true });
    copyFileSync(join(scratch, 'root', IN_PACKAGE), PLUGIN);
    chmodSync(PLUGIN, 0o755);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return must('use docker compose', 'docker', ['compose', 'version', '--short'], { env: environment() });
}
