/** What /proc knows of processes. */
import { readdirSync, readFileSync } from 'node:fs';

/** Start time in clock ticks since boot; undefined when there is no such process. [proc(5), stat field 22] */
export function processStart(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

/** Pids of the processes that were started for the lab in this run directory. */
export function processesOf(runDir: string): number[] {
  return processesWith(`L4LAB_RUN_DIR=${runDir}`);
}

/** Pids of the processes that were started with `variable` ("NAME=value") in their environment, as far as we may see that. */
export function processesWith(variable: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(variable);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Sends a signal to a process that may have ended meanwhile. */
export function endProcess(pid: number, signal: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(pid, signal);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ESRCH') throw err;
  }
}

/** CPU seconds used so far and resident bytes of a process; zeros when it is gone. */
export function processUsage(pid: number): { cpuSeconds: number; rssBytes: number } {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // USER_HZ is 100 on every Linux that Node runs on; pages are 4 KiB.
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100,
      rssBytes: Number(fields[21]) * 4096,
    };
  } catch {
    return { cpuSeconds: 0, rssBytes: 0 };
  }
}
