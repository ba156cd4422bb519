/** -w: the variables of a finished transfer. [curl(1), --write-out] */
import type { TransferInfo } from './transfer.ts';

const seconds = (ms: number) => (ms / 1000).toFixed(6);

type Variable = (info: TransferInfo, exit: number, error: string) => string;

const VARIABLES: Record<string, Variable> = {
  content_type: (i) => i.contentType,
  errormsg: (_i, _e, message) => message,
  exitcode: (_i, exit) => String(exit),
  filename_effective: () => '',
  http_code: (i) => String(i.status).padStart(3, '0'),
  http_version: (i) => i.httpVersion,
  local_ip: (i) => i.localIp,
  local_port: (i) => String(i.localPort),
  method: (i) => i.method,
  num_connects: (i) => String(i.connections),
  num_headers: (i) => String(i.headers.length),
  num_redirects: (i) => String(i.redirects),
  redirect_url: (i) => i.redirectUrl,
  remote_ip: (i) => i.remoteIp,
  remote_port: (i) => String(i.remotePort),
  response_code: (i) => String(i.status).padStart(3, '0'),
  scheme: () => 'http',
  size_download: (i) => String(i.downloaded),
  size_header: (i) => String(i.headerBytes),
  size_request: (i) => String(i.requestBytes),
  size_upload: () => '0',
  speed_download: (i) => String(i.times.total > 0 ? Math.round((i.downloaded * 1000) / i.times.total) : 0),
  speed_upload: () => '0',
  time_connect: (i) => seconds(i.times.connect),
  time_namelookup: (i) => seconds(i.times.namelookup),
  time_pretransfer: (i) => seconds(i.times.pretransfer),
  time_redirect: (i) => seconds(i.times.redirect),
  time_starttransfer: (i) => seconds(i.times.starttransfer),
  time_total: (i) => seconds(i.times.total),
  url: (i) => i.url,
  url_effective: (i) => i.effectiveUrl,
};
// `time_appconnect` is about TLS, which this curl has not.
VARIABLES.time_appconnect = () => seconds(0);

/** Expands a format. Unknown variables are reported through `warn` and vanish, as in curl. */
export function writeOut(
  format: string,
  info: TransferInfo,
  exit: number,
  error: string,
  warn: (text: string) => void,
): string {
  const escapes: Record<string, string> = { n: '\n', r: '\r', t: '\t' };
  return format.replace(
    /%%|%\{([^}]*)\}|\\(.)/g,
    (whole, name: string | undefined, special: string | undefined) => {
      if (whole === '%%') return '%';
      if (special !== undefined) return escapes[special] ?? whole;
      if (name === 'json') return json(info, exit, error);
      const variable = VARIABLES[name ?? ''];
      if (!variable) warn(`unknown --write-out variable: '${name}'`);
      return variable?.(info, exit, error) ?? '';
    },
  );
}

function json(info: TransferInfo, exit: number, error: string): string {
  const numbers = /^(size|speed|time|num)_|_port$|^(exitcode|http_code|response_code)$/;
  const entries = Object.entries(VARIABLES).map(([name, variable]) => {
    const value = variable(info, exit, error);
    return [name, numbers.test(name) ? Number(value) : value];
  });
  return JSON.stringify(Object.fromEntries(entries));
}
