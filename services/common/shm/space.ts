/** How the file system of the labs is made larger: that depends on where we run. */
import { existsSync } from 'node:fs';

/** For the hint of an error: a command, or an option of the container. */
export function larger(): string {
  if (process.env.L4LAB_KEEPER) return 'L4LAB_SHM_SIZE=1g docker compose up -d';
  if (existsSync('/.dockerenv') || existsSync('/run/.containerenv'))
    return 'docker run --tmpfs /run/l4lab:size=...';
  return 'mount -o remount,size=...';
}
