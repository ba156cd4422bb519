/**
 * l4vio_net_p2p: a virtual network cable between two virtio-net clients (F3.12).
 *
 * Capabilities: `svr` (the factory that clients create their ports with), and those named with -d. Exit status: 0 asked
 * to end, 1 bad command line, 2 no `svr`.
 */
import { once } from 'node:events';
import type { ServerEnd } from '#common/ipc/capability';
import type { Gate } from '#common/ipc/gate';
import { bind } from '#common/ipc/service';
import { journalPath, ObjectJournal } from '#common/journal/object_journal';
import { serveAgain } from '#common/journal/resume';
import { trustOnly } from '#common/l4virtio/trusted';
import type { TaskEnv } from '#common/task/env';
import { Factory } from '../../proto/gen/services.js';
import { factoryHandlers, restorePort } from './factory.ts';
import { Link } from './link.ts';
import { OptionError, type Options, parseOptions, USAGE } from './options.ts';

const EXIT_BAD_OPTION = 1;
const EXIT_NO_SVR = 2;

const say = (line: string): void => console.log(line);

export async function main(env: TaskEnv): Promise<number> {
  say('Hello from l4vio_net_p2p');
  const options = readOptions(env.argv.slice(1));
  if (!options) return EXIT_BAD_OPTION;
  if (options.help) {
    say(USAGE);
    return 0;
  }
  const { queueSize, pollUs, trustedDataspaces } = options;
  for (const warning of options.warnings) say(warning);
  say(`Max number of buffers in virtqueue: ${queueSize}`);
  const svr = env.serverEnds.get('svr');
  if (!svr) {
    console.error(
      "error registering switch: there is no capability 'svr'; give it one with svr = channel:svr()",
    );
    return EXIT_NO_SVR;
  }
  const accepts = await trustOnly(env, trustedDataspaces);
  const journal = new ObjectJournal(journalPath(env.runDir, svr.gate), say);
  const link = new Link(env, { queueSize, pollUs, accepts, log: say });
  let gate: Gate | undefined;
  try {
    if (pollUs !== undefined) say(`Enable polling at interval ${pollUs} usec`);
    link.start();
    gate = await serve(env, svr, link, journal);
    gate.setRoot([bind(Factory, factoryHandlers(gate, link, say, journal))]);
    if (!env.signal.aborted) await once(env.signal, 'abort');
    // Who starts components may be about to start this one again; the directory goes with the lab.
    if (!env.external) journal.close();
    return 0;
  } finally {
    // With the gate closed first, clients do not hear that their ports are given up, but that the link is away.
    if (env.external) gate?.close();
    link.close();
  }
}

/** With the ports of an earlier life, if there was one. */
async function serve(env: TaskEnv, svr: ServerEnd, link: Link, journal: ObjectJournal): Promise<Gate> {
  if (!journal.resumed) return env.ipc.serve(svr);
  const { gate, records } = await serveAgain(
    env,
    svr,
    journal,
    (again, record) => restorePort(again, link, record, journal),
    say,
  );
  if (records.length > 0)
    say(`Started again, with ${records.map(({ number }) => `port ${number}`).join(' and ')}`);
  return gate;
}

function readOptions(args: readonly string[]): Options | undefined {
  try {
    return parseOptions(args);
  } catch (err) {
    if (!(err instanceof OptionError)) throw err;
    console.error(err.message);
    return undefined;
  }
}
