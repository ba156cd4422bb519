/**
 * httpd: an HTTP/1.1 server on lwIP that serves a directory of rom, or of any namespace.
 *
 * Capabilities: `virtnet*` (network devices) and the one that the directory is in. Addresses come from IFCONFIG_IP4_*.
 * Exit status: 0 asked to end, 1 bad command line or no such directory.
 */
import { once } from 'node:events';
import type { TaskEnv } from '#common/task/env';
import { formatIpv4 } from '#common/wire/ipv4';
import { openNetwork } from '#lwip/index';
import { OptionError, type Options, parseOptions, USAGE } from './options.ts';
import { HttpServer } from './server.ts';
import { CapabilitySite } from './site.ts';

const EXIT_USAGE = 1;

export async function main(env: TaskEnv): Promise<number> {
  const options = readOptions(env.argv.slice(1));
  if (!options) return EXIT_USAGE;
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const { root, port, connections, quiet } = options;
  const site = new CapabilitySite(env, root);
  if ((await site.find([]))?.kind !== 'directory') {
    console.error(
      `Cannot serve '${root}' as there is no such directory: this task's capabilities are ${env.capNames.join(', ') || 'none'}`,
    );
    return EXIT_USAGE;
  }
  const network = await openNetwork(env);
  if (network.interfaces.length === 0) {
    console.error(
      'Cannot serve as there is no network interface: give the task a port, virtnet = vswitch:create(0)',
    );
    return EXIT_USAGE;
  }
  const http = new HttpServer({ site, log: (line) => quiet || console.log(line) });
  try {
    // A client may end its side after the request and still wants the answer.
    const server = network.createServer({ allowHalfOpen: true }, (socket) => http.accept(socket));
    server.maxConnections = connections;
    server.listen({ port });
    await once(server, 'listening', { signal: env.signal }).catch(ifAborted(env.signal));
    for (const { name, ip } of network.interfaces) {
      const place = ip === 0 ? `no address: set IFCONFIG_IP4_${name}` : `http://${formatIpv4(ip)}:${port}/`;
      console.log(`Serving ${root} at ${place}`);
    }
    if (!env.signal.aborted) await once(env.signal, 'abort');
    server.close();
    return 0;
  } finally {
    http.close();
    await network.close();
  }
}

function ifAborted(signal: AbortSignal): (err: unknown) => void {
  return (err) => {
    if (!signal.aborted) throw err;
  };
}

function readOptions(args: readonly string[]): Options | undefined {
  try {
    return parseOptions(args);
  } catch (err) {
    if (!(err instanceof OptionError)) throw err;
    console.error(`httpd: ${err.message}`);
    return undefined;
  }
}
