/** A run directory for one test, gone with it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeRunDir } from '#common/shm/run_dir';

export interface TestRunDir extends Disposable {
  readonly path: string;
}

/** Made below /dev/shm, as the launcher does it: sockets, FIFOs and mappings behave as for real. */
export function testRunDir(): TestRunDir {
  const path = mkdtempSync(join('/dev/shm', 'l4lab-test-'));
  makeRunDir(path);
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
