import { describe, expect, it } from 'vitest';
import { LogTee } from './output.ts';

const textOf = (chunks: { stderr?: boolean | null; data?: Uint8Array | null }[]) =>
  chunks.map(({ stderr, data }) => `${stderr ? 'E' : 'O'}:${Buffer.from(data ?? []).toString()}`);

describe('LogTee', () => {
  it('sends what came in one turn in one call, in order', async () => {
    const calls: string[][] = [];
    const tee = new LogTee(async (chunks) => void calls.push(textOf(chunks)));
    tee.take(false, 'a\n');
    tee.take(true, Buffer.from('b\n'));
    tee.take(false, '');
    await tee.flush();
    expect(calls).toEqual([['O:a\n', 'E:b\n']]);
  });

  it('keeps up to 1 MiB while nobody reads, and says what is missing', async () => {
    let release: () => void = () => {};
    const read = new Promise<void>((resolve) => {
      release = resolve;
    });
    const got: string[] = [];
    const tee = new LogTee(async (chunks) => {
      await read;
      got.push(...textOf(chunks));
    });
    const piece = `${'x'.repeat(64 * 1024 - 1)}\n`;
    for (let n = 0; n < 40; n++) tee.take(false, piece);
    release();
    await tee.flush();
    const whole = got.filter((text) => text === `O:${piece}`).length;
    expect(whole).toBe(16);
    expect(got.at(-1)).toBe(
      `E:l4lab: ${24 * 64 * 1024} bytes of output are missing here: the log was not read\n`,
    );
  });

  it('a failing call loses its batch, not the rest', async () => {
    const got: string[] = [];
    let fail = true;
    const tee = new LogTee(async (chunks) => {
      if (fail) throw new Error('away');
      got.push(...textOf(chunks));
    });
    tee.take(false, 'lost\n');
    await tee.flush();
    fail = false;
    tee.take(false, 'kept\n');
    await tee.flush();
    expect(got).toEqual(['O:kept\n']);
  });
});
