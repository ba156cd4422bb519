/** The header of a request as curl sends it. [curl(1), --header; RFC 9110 §5] */
import { validateHeaderName, validateHeaderValue } from 'node:http';
import { CurlError, EXIT } from './exit_codes.ts';
import type { Config } from './options.ts';

/** Meant for the host that the user named: not for one that a redirect leads to. */
const FOR_FIRST_HOST = new Set(['authorization', 'cookie', 'host']);

/**
 * Names with their values in the order in which they are sent: Host, Authorization of the URL or of the first one for the same host, User-Agent and Accept unless
 * -H replaces them; `-H Name:` removes, `-H Name;` sends it empty, the same name several times is sent as often.
 * `first` is the URL of the command line. Throws CurlError 43 for what cannot stand in a header.
 */
export function requestHeaders(url: URL, first: URL, config: Config): Map<string, readonly string[]> {
  const headers = new Map<string, readonly string[]>([['Host', [url.host]]]);
  const login = [url, first].find((each) => each.host === url.host && hasLogin(each));
  if (login !== undefined) headers.set('Authorization', [basicLogin(login)]);
  if (config.userAgent !== '') headers.set('User-Agent', [config.userAgent]);
  headers.set('Accept', ['*/*']);
  const given = config.headers.map(parseHeader).filter(({ name }) => isFor(name, url, first));
  for (const { name } of given) remove(headers, name);
  for (const { name, value } of given) {
    if (value === undefined) continue;
    const known = [...headers.keys()].find((other) => sameName(other, name)) ?? name;
    headers.set(known, [...(headers.get(known) ?? []), value]);
  }
  for (const [name, values] of headers) for (const value of values) check(name, value);
  return headers;
}

/** A -H; without a value the name is not to be sent. */
function parseHeader(header: string): { name: string; value: string | undefined } {
  const [, name = '', mark = '', value = ''] = /^([^:;]+)([:;])\s*(.*?)\s*$/s.exec(header) ?? [];
  return { name, value: name !== '' && (value !== '' || mark === ';') ? value : undefined };
}

function isFor(name: string, url: URL, first: URL): boolean {
  return url.host === first.host || !FOR_FIRST_HOST.has(name.toLowerCase());
}

function remove(headers: Map<string, unknown>, name: string): void {
  for (const known of [...headers.keys()]) if (sameName(known, name)) headers.delete(known);
}

function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

function hasLogin({ username, password }: URL): boolean {
  return username !== '' || password !== '';
}

/** Like curl, takes a '%' without two digits behind it as it is. */
function basicLogin({ username, password }: URL): string {
  const bytes = (text: string) =>
    text.replace(/%([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
  const login = Buffer.from(`${bytes(username)}:${bytes(password)}`, 'latin1');
  return `Basic ${login.toString('base64')}`;
}

function check(name: string, value: string): void {
  try {
    validateHeaderName(name);
    validateHeaderValue(name, value);
  } catch (cause) {
    throw new CurlError(
      EXIT.BAD_FUNCTION_ARGUMENT,
      `Cannot send header ${JSON.stringify(`${name}: ${value}`)} as a name is one word and a value has no line ends or control characters`,
      cause,
    );
  }
}
