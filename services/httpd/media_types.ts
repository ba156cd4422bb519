/** Media types by the end of a name; what is not listed is bytes. */

const UTF8 = '; charset=utf-8';

const TYPES: Readonly<Record<string, string>> = {
  html: `text/html${UTF8}`,
  htm: `text/html${UTF8}`,
  css: `text/css${UTF8}`,
  js: `text/javascript${UTF8}`,
  mjs: `text/javascript${UTF8}`,
  json: 'application/json',
  xml: 'application/xml',
  txt: `text/plain${UTF8}`,
  md: `text/markdown${UTF8}`,
  csv: `text/csv${UTF8}`,
  cfg: `text/plain${UTF8}`,
  lua: `text/plain${UTF8}`,
  vbus: `text/plain${UTF8}`,
  conf: `text/plain${UTF8}`,
  log: `text/plain${UTF8}`,
  svg: 'image/svg+xml',
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  gif: 'image/gif',
  ico: 'image/vnd.microsoft.icon',
  webp: 'image/webp',
  wasm: 'application/wasm',
  pdf: 'application/pdf',
  gz: 'application/gzip',
  zip: 'application/zip',
  tar: 'application/x-tar',
};

export function mediaType(name: string): string {
  const end = /\.([^.]+)$/.exec(name)?.[1] ?? '';
  return TYPES[end.toLowerCase()] ?? 'application/octet-stream';
}
