/**
 * The web server as a process of its own: `node dist/services/web/main.js [port [host]]`. Prints
 * `listening on HOST:PORT` once it serves and ends on SIGTERM or SIGINT.
 */
import { Health } from '#common/task/health';
import { startWeb } from './server.ts';

const [port = '0', host = '127.0.0.1'] = process.argv.slice(2);
const web = await startWeb({ port: Number(port), host }).catch((err: NodeJS.ErrnoException) => {
  const hint =
    err.code === 'EADDRINUSE'
      ? 'another program has that port: end it, or name another port'
      : 'name another port and an address of this machine: main.js [port [host]]';
  console.error(`web: Cannot listen on ${host}:${port} as ${err.message}; ${hint}`);
  process.exit(1);
});
console.log(`listening on ${web.host}:${web.port}`);
const { L4LAB_HEALTH_FILE: healthFile } = process.env;
if (healthFile) new Health([healthFile]).set('start');
const end = () => void web.close().then(() => process.exit(0));
process.once('SIGTERM', end);
process.once('SIGINT', end);
