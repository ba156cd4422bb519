// The container engine: a running one is used as it is, else Docker is installed and started by hand.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { install } from './apt.mjs';
import { attempt, EngineError, has, lastLines, say } from './shell.mjs';

/** First engine whose API (1.41) has everything that the tests ask for. */
const OLDEST_ENGINE = 20.1;
/** Both end what hangs; it takes a second or two, and more on a machine that is busy. */
const READY_MS = 300_000;
const END_MS = 300_000;

/** What we keep between `start` and `stop`: pid file, log, the compose plugin. */
export const STATE = process.env.L4LAB_ENGINE_DIR ?? join(tmpdir(), `l4lab-engine-${process.getuid()}`);
const PID_FILE = join(STATE, 'dockerd.pid');
const LOG_FILE = join(STATE, 'dockerd.log');

/** State of the engine: `version` when it answers, else `problem` says why not in one sentence. */
export function engine() {
  if (!has('docker')) return { problem: 'there is no program docker on this machine' };
  const { status, output, errors } = attempt('docker', ['version', '--format', '{{.Server.Version}}'], {
    timeoutMs: 60_000,
  });
  if (status !== 0 || output === '') {
    if (/permission denied/i.test(errors)) {
      const hint = 'be a member of the group docker, or root';
      return { problem: `this user may not talk to the container engine: ${hint}`, denied: true };
    }
    return { problem: `no container engine answers: ${lastLines(errors, 1).trim()}` };
  }
  const [major, minor] = output.split('.').map(Number);
  if (major + minor / 100 < OLDEST_ENGINE) {
    return { problem: `the container engine must be Docker 20.10 or newer: this is ${output}`, old: true };
  }
  return { version: output };
}

/** Pid of the engine that we started; undefined if there is none, or another process has its number now. */
export function ourDaemon() {
  try {
    const pid = Number(readFileSync(PID_FILE, 'utf8'));
    // Empty when it has ended and nobody has asked for its status, as process 1 of a container may never do.
    const [program = ''] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return basename(program) === 'dockerd' ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** Makes an engine answer; returns its version. Throws EngineError. */
export async function start() {
  const running = engine();
  if (running.version) return running.version;
  if (running.denied || running.old) throw new EngineError(`Cannot use containers as ${running.problem}`);
  const missing = ['docker', 'dockerd', 'iptables'].filter((program) => !has(program));
  if (missing.length > 0)
    install(packagesFor(missing), `install the container engine (${missing.join(', ')})`);
  if (process.getuid() !== 0)
    throw new EngineError(`Cannot start the container engine as that needs root: ${running.problem}`);
  return startDaemon();
}

function packagesFor(missing) {
  const packages = [];
  if (missing.includes('docker') || missing.includes('dockerd')) packages.push('docker.io');
  if (missing.includes('iptables')) packages.push('iptables');
  // Newer releases of Debian have the client in a package of its own.
  const split = attempt('apt-cache', ['show', 'docker-cli']).status === 0;
  if (missing.includes('docker') && split) packages.push('docker-cli');
  return packages;
}

async function startDaemon() {
  mkdirSync(STATE, { recursive: true, mode: 0o700 });
  // One that was killed leaves it, and a later one refuses to start as soon as any process has that number.
  rmSync(PID_FILE, { force: true });
  say(`starting dockerd (log: ${LOG_FILE})`);
  const log = openSync(LOG_FILE, 'w', 0o600);
  const daemon = spawn('dockerd', ['--pidfile', PID_FILE], {
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  let ended;
  daemon.once('error', (err) => {
    ended = err.message;
  });
  daemon.once('exit', (code, signal) => {
    ended = `it ended with ${signal ?? `status ${code}`}`;
  });
  daemon.unref();
  for (const end = Date.now() + READY_MS; Date.now() < end; await delay(200)) {
    const { version } = engine();
    if (version) return version;
    if (ended) break;
  }
  if (!ended) process.kill(daemon.pid, 'SIGTERM');
  const why = ended ?? `it did not answer within ${READY_MS / 1000} s`;
  throw new EngineError(`Cannot start the container engine as dockerd is not ready: ${why}\n${logTail()}`);
}

function logTail() {
  return existsSync(LOG_FILE) ? lastLines(readFileSync(LOG_FILE, 'utf8')) : '';
}

/** Ends the engine if it is the one that we started; returns whether there was one. Throws EngineError. */
export async function stop() {
  const pid = ourDaemon();
  if (pid === undefined) return false;
  process.kill(pid, 'SIGTERM');
  for (const end = Date.now() + END_MS; ourDaemon() !== undefined; await delay(100)) {
    if (Date.now() > end)
      throw new EngineError(
        `Cannot stop the container engine as dockerd (pid ${pid}) goes on for ${END_MS / 1000} s`,
      );
  }
  rmSync(PID_FILE, { force: true });
  return true;
}
