/** What this process has open, for tests that see whether anything is left. */
import { readdirSync, readlinkSync } from 'node:fs';

/**
 * Targets of its descriptors that begin with `prefix`, e.g. a directory or `socket:`, sorted. Not all of them: Node's own
 * come and go at any time.
 */
export function openFiles(prefix: string): string[] {
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // of the listing itself
    }
  });
  return targets.filter((target) => target.startsWith(prefix)).sort();
}
