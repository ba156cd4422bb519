#!/usr/bin/env node
// The container engine for test/containers, on a workstation as in CI:
//
//     node test/containers/engine.mjs start     engine, compose v2 and base image, each if it is missing
//     node test/containers/engine.mjs status    says what there is; status 0 if everything is there
//     node test/containers/engine.mjs check     status 0 if an engine answers, else says why not
//     node test/containers/engine.mjs env       export lines that a shell needs after `start` (eval)
//     node test/containers/engine.mjs base      only the base image
//     node test/containers/engine.mjs stop      ends the engine if `start` started it
//
// Plain JavaScript without dependencies. Exit status 0, or 1 after a sentence that says what is wrong.
import { BASE, provideBase } from './engine/base_image.mjs';
import { composeVersion, environment, installCompose } from './engine/compose.mjs';
import { engine, ourDaemon, start, stop } from './engine/daemon.mjs';
import { attempt, EngineError, say } from './engine/shell.mjs';

const commands = {
  async start() {
    say(`Docker ${await start()} answers`);
    say(`docker compose ${installCompose()}`);
    say(`${BASE}: ${provideBase()}`);
  },

  async stop() {
    say((await stop()) ? 'stopped' : 'nothing to stop: no engine was started from here');
  },

  status() {
    const { version, problem } = engine();
    const compose = composeVersion();
    const base = version !== undefined && attempt('docker', ['image', 'inspect', BASE]).status === 0;
    const pid = ourDaemon();
    say(version ? `Docker ${version} answers${pid ? ` (started from here, pid ${pid})` : ''}` : problem);
    say(compose ? `docker compose ${compose}` : 'docker compose v2 is missing');
    say(`${BASE}: ${base ? 'present' : 'missing'}`);
    if (!version || !compose || !base) process.exitCode = 1;
  },

  check() {
    const { version, problem } = engine();
    if (!version) throw new EngineError(problem);
  },

  base() {
    const { problem } = engine();
    if (problem) throw new EngineError(`Cannot provide ${BASE} as ${problem}`);
    say(`${BASE}: ${provideBase()}`);
  },

  env() {
    for (const [name, value] of Object.entries(environment())) {
      console.log(`export ${name}='${value.replaceAll("'", "'\\''")}'`);
    }
  },
};

const [name = '', ...rest] = process.argv.slice(2);
try {
  if (!Object.hasOwn(commands, name) || rest.length > 0) {
    const known = Object.keys(commands).join(', ');
    throw new EngineError(`Cannot run "${[name, ...rest].join(' ')}" as a command must be one of ${known}`);
  }
  await commands[name]();
} catch (err) {
  if (!(err instanceof EngineError)) throw err;
  say(err.message);
  process.exitCode = 1;
}
