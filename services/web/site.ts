/**
 * What the local web server shows: a directory page like a Debian mirror's, and files of any size
 * whose bytes follow from their size alone, so that a download can be checked against its hash.
 */
import { createHash } from 'node:crypto';

interface Entry {
  readonly name: string;
  readonly modified: string;
  readonly size: string;
}

const ENTRIES: readonly Entry[] = [
  { name: 'README', modified: '2026-09-05 10:12', size: '1.2K' },
  { name: 'README.CD-manufacture', modified: '2010-06-26 09:52', size: '1.3K' },
  { name: 'README.html', modified: '2026-09-05 10:12', size: '2.8K' },
  { name: 'README.mirrors.html', modified: '2017-03-04 20:08', size: '291' },
  { name: 'README.mirrors.txt', modified: '2017-03-04 20:08', size: '86' },
  { name: 'dists/', modified: '2026-09-05 10:11', size: '-' },
  { name: 'doc/', modified: '2026-11-22 01:54', size: '-' },
  { name: 'extrafiles', modified: '2026-11-22 02:31', size: '209K' },
  { name: 'indices/', modified: '2026-11-22 02:30', size: '-' },
  { name: 'ls-lR.gz', modified: '2026-11-22 02:22', size: '15M' },
  { name: 'pool/', modified: '2022-10-05 17:09', size: '-' },
  { name: 'project/', modified: '2008-11-17 23:05', size: '-' },
  { name: 'tools/', modified: '2012-10-10 16:29', size: '-' },
  { name: 'zzz-dists/', modified: '2023-10-07 11:07', size: '-' },
];

/** The page of a directory, HTML. */
export function directoryPage(path: string): string {
  const rows = ENTRIES.map(({ name, modified, size }) => {
    const link = `<a href="${name}">${name}</a>`;
    return `${link}${' '.repeat(Math.max(1, 26 - name.length))}${modified}  ${size.padStart(5)}`;
  });
  return [
    '<!DOCTYPE html>',
    '<html>',
    ` <head><title>Index of ${path}</title></head>`,
    ' <body>',
    `<h1>Index of ${path}</h1>`,
    '<pre>Name                      Last modified      Size<hr>',
    `<a href="/">Parent Directory</a>                              -`,
    ...rows,
    '<hr></pre>',
    ' </body>',
    '</html>',
    '',
  ].join('\n');
}

const BLOCK_BYTES = 65536;

/** 64 KiB that do not compress, different for every block number. */
function block(n: number): Buffer {
  const seed = createHash('sha256')
    .update(`l4lab block ${n % 16}`)
    .digest();
  const bytes = Buffer.alloc(BLOCK_BYTES);
  let state = seed.readUInt32LE(0) | 1;
  for (let at = 0; at < BLOCK_BYTES; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes.writeInt32LE(state, at);
  }
  return bytes;
}

const BLOCKS = Array.from({ length: 16 }, (_, n) => block(n));

/** The file `/bytes/<size>` in pieces. */
export function* fileBlocks(size: number): Generator<Buffer> {
  for (let at = 0, n = 0; at < size; at += BLOCK_BYTES, n++) {
    const bytes = BLOCKS[n % BLOCKS.length] as Buffer;
    yield size - at >= BLOCK_BYTES ? bytes : bytes.subarray(0, size - at);
  }
}

/** SHA-256 of the file `/bytes/<size>`, hex. */
export function fileHash(size: number): string {
  const hash = createHash('sha256');
  for (const bytes of fileBlocks(size)) hash.update(bytes);
  return hash.digest('hex');
}
