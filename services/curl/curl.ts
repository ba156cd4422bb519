/** curl behind its network: command line, transfers in turn, messages, exit status. */
import type http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TaskEnv } from '#common/task/env';
import { CurlError, EXIT } from './exit_codes.ts';
import { type Config, type Destination, defaultConfig, helpText, parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { retryDelay, retryReason, retryWarning } from './retry.ts';
import { FileSink, type Sink, stdoutSink } from './sink.ts';
import { newInfo, type Trace, Transfer, type TransferInfo } from './transfer.ts';
import { parseUrl, remoteName } from './url.ts';
import { VERSION, versionText } from './version.ts';
import { writeOut } from './write_out.ts';

/**
 * Runs curl. `openAgent` is asked for connections when there is something to transfer: the version and
 * a usage error need no network.
 */
export async function curl(
  env: Pick<TaskEnv, 'argv' | 'stdout' | 'stderr' | 'signal'>,
  openAgent: () => Promise<http.Agent>,
): Promise<number> {
  const config = defaultConfig(VERSION);
  try {
    parseOptions(env.argv.slice(1), config);
  } catch (err) {
    return usageError(env, err);
  }
  if (config.action !== 'transfer') {
    await env.stdout.write(config.action === 'version' ? versionText() : helpText());
    return EXIT.OK;
  }
  const agent = await openAgent();
  let exit: number = EXIT.OK;
  for (const [n, url] of config.urls.entries()) {
    const result = await transferOne(env, config, agent, url, config.destinations[n] ?? { kind: 'stdout' });
    if (result !== EXIT.OK) exit = result;
    if (env.signal.aborted) break;
  }
  return exit;
}

async function usageError(env: Pick<TaskEnv, 'stderr'>, err: unknown): Promise<number> {
  if (!(err instanceof CurlError)) throw err;
  await env.stderr.write(`curl: ${err.message}\ncurl: try 'curl --help' for more information\n`);
  return err.exit;
}

/** One URL: an attempt, further ones with --retry, then what -w asks for. */
async function transferOne(
  env: Pick<TaskEnv, 'stdout' | 'stderr' | 'signal'>,
  config: Config,
  agent: http.Agent,
  url: string,
  destination: Destination,
): Promise<number> {
  const print = (text: string) => void env.stderr.write(text);
  const speaks = !config.silent || config.showError;
  for (let tries = 0; ; tries++) {
    const { info, failure } = await attempt(env, config, agent, url, destination);
    const exit = failure?.exit ?? EXIT.OK;
    const message = failure?.message ?? '';
    // Who ends us knows it: like the original, no message then.
    if (failure && !env.signal.aborted && speaks) print(`curl: (${exit}) ${message}\n`);
    const again = tries < config.retries ? retryReason(config, info.status, failure) : undefined;
    if (again !== undefined && !env.signal.aborted) {
      const delay = retryDelay(config, tries);
      if (speaks) print(retryWarning(again, delay, config.retries - tries));
      await sleep(delay, undefined, { signal: env.signal }).catch(() => {});
      if (!env.signal.aborted) continue;
    }
    if (config.writeOut !== '') {
      await env.stdout.write(
        writeOut(config.writeOut, info, exit, message, (text) => print(`curl: ${text}\n`)),
      );
    }
    return exit;
  }
}

async function attempt(
  env: Pick<TaskEnv, 'stdout' | 'stderr' | 'signal'>,
  config: Config,
  agent: http.Agent,
  url: string,
  destination: Destination,
): Promise<{ info: TransferInfo; failure: CurlError | undefined }> {
  const print = (text: string) => void env.stderr.write(text);
  const trace: Trace = (mark, line) => {
    if (config.verbose) print(`${mark} ${line}\n`);
  };
  let info = newInfo(url);
  let progress: Progress | undefined;
  let sink: Sink | undefined;
  try {
    sink = openSink(env, url, destination);
    const transfer = new Transfer(url, config, agent, sink, trace);
    info = transfer.info;
    if (!config.silent && destination.kind !== 'stdout') progress = new Progress(info, print);
    progress?.start();
    await transfer.run(env.signal);
    await sink.close();
    return { info, failure: undefined };
  } catch (err) {
    if (!(err instanceof CurlError) && !env.signal.aborted) throw err;
    const failure =
      err instanceof CurlError ? err : new CurlError(EXIT.RECV_ERROR, 'Transfer was ended by a signal');
    return { info, failure };
  } finally {
    progress?.stop();
    // A further attempt begins the file anew.
    await sink?.abandon();
  }
}

function openSink(env: Pick<TaskEnv, 'stdout'>, url: string, destination: Destination): Sink {
  if (destination.kind === 'stdout') return stdoutSink(env.stdout);
  return new FileSink(destination.kind === 'file' ? destination.path : remoteName(parseUrl(url)));
}
