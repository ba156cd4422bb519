/** URLs as curl takes them: the scheme may be missing, only http can be spoken. */
import { CurlError, EXIT } from './exit_codes.ts';

/** Parses and checks a URL. Throws CurlError 3 (malformed) or 1 (a protocol that this curl has not). */
export function parseUrl(text: string): URL {
  if (text === '') throw new CurlError(EXIT.URL_MALFORMAT, 'URL rejected: Malformed input to a URL function');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (/[\u0000-\u0020\u007f]/.test(text))
    throw new CurlError(EXIT.URL_MALFORMAT, 'URL rejected: Malformed input to a URL function');
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== 'http') {
    throw new CurlError(EXIT.UNSUPPORTED_PROTOCOL, `Protocol "${scheme}" not supported`);
  }
  const full = scheme === undefined ? `http://${text}` : text;
  if (/^http:\/\/(?:[^/?#]*@)?(?:[/?#]|$|:)/i.test(full))
    throw new CurlError(EXIT.URL_MALFORMAT, 'URL rejected: No host part in the URL');
  const port = /^http:\/\/(?:[^/?#]*@)?(?:\[[^\]]*\]|[^/?#:]*):([^/?#]*)/i.exec(full)?.[1];
  if (port !== undefined && port !== '' && !(/^\d+$/.test(port) && Number(port) <= 65535)) {
    throw new CurlError(
      EXIT.URL_MALFORMAT,
      'URL rejected: Port number was not a decimal number between 0 and 65535',
    );
  }
  try {
    return new URL(full);
  } catch (cause) {
    throw new CurlError(EXIT.URL_MALFORMAT, 'URL rejected: Bad hostname', cause);
  }
}

/** A Location as Node gives it, one character for each byte: bytes above ASCII are percent-encoded, as curl sends them. */
export function locationText(location: string): string {
  return location.replace(/[\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** Where a redirect leads: an absolute URL, or what could not be made one. Throws CurlError as `parseUrl` does. */
export function redirectTarget(text: string): URL {
  const scheme = URL.canParse(text) ? new URL(text).protocol.slice(0, -1) : 'http';
  if (scheme !== 'http') throw new CurlError(EXIT.UNSUPPORTED_PROTOCOL, `Protocol "${scheme}" not supported`);
  return parseUrl(text);
}

/** The file name that -O takes: the last part of the path. Throws CurlError 23 when there is none. */
export function remoteName(url: URL): string {
  const name = url.pathname.slice(url.pathname.lastIndexOf('/') + 1);
  if (name === '' || name === '.' || name === '..')
    throw new CurlError(EXIT.WRITE_ERROR, 'Remote filename has no length');
  return name;
}
