/** The one file in the tar archive that a container engine gives for a path. */
import type { Readable } from 'node:stream';

const BLOCK = 512;
const SIZE = 124;
const SIZE_DIGITS = 12;
const TYPE = 156;

/** Reads the archive to its end and returns the file's bytes. Throws when there is no regular file in it. */
export async function fileOf(archive: NodeJS.ReadableStream | Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(Buffer.from(chunk));
  const bytes = Buffer.concat(chunks);
  for (let at = 0; at + BLOCK <= bytes.length; ) {
    const size = Number.parseInt(bytes.toString('latin1', at + SIZE, at + SIZE + SIZE_DIGITS), 8) || 0;
    const type = bytes.toString('latin1', at + TYPE, at + TYPE + 1);
    const end = at + BLOCK + size;
    if ((type === '0' || type === '\0') && bytes[at] !== 0 && end <= bytes.length) {
      return bytes.subarray(at + BLOCK, end);
    }
    at = at + BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  throw new Error('Cannot read the file as the archive of the container engine has none');
}
