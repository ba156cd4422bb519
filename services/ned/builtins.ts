/** The programs of l4lab itself, as rom shows them. */
import { existsSync, readdirSync } from 'node:fs';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Services that are no programs for scripts: the launcher starts them. */
const NOT_FOR_SCRIPTS = new Set(['cli', 'common', 'machine', 'ned', 'web']);
/** L4Re's names where they cannot be folders of ours. */
const NAMES: Readonly<Record<string, string>> = { ned_prompt: 'ned-prompt' };

/** Names of all services that have a main module, e.g. `io`, `curl`. */
export function builtinPrograms(): string[] {
  const services = new URL('../', import.meta.url);
  const main = `main${extname(import.meta.url)}`;
  return readdirSync(fileURLToPath(services), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !NOT_FOR_SCRIPTS.has(entry.name))
    .filter((entry) => existsSync(new URL(`${entry.name}/${main}`, services)))
    .map(({ name }) => NAMES[name] ?? name);
}
