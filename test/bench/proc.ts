/** What the kernel says about a process. */
import { readdirSync, readFileSync } from 'node:fs';

function tasks(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((tid) => `/proc/${pid}/task/${tid}`);
}

/** Nanoseconds that all threads of a process ran, and that they waited for a core while they could have run. */
export function processCpu(pid: number): { cpu: number; waited: number } {
  const sum = { cpu: 0, waited: 0 };
  for (const task of tasks(pid)) {
    const [cpu, waited] = readFileSync(`${task}/schedstat`, 'latin1').split(' ');
    sum.cpu += Number(cpu);
    sum.waited += Number(waited);
  }
  return sum;
}

/** How often its threads went to sleep: each time something woke them up again. */
export function voluntarySwitches(pid: number): number {
  let sum = 0;
  for (const task of tasks(pid))
    sum += Number(
      /^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`${task}/status`, 'latin1'))?.[1] ?? 0,
    );
  return sum;
}

/** Cores that this process may use. */
export function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s+(.*)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
  return list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, n) => first + n);
  });
}

/** Runnable processes over the last minute. */
export function load(): number {
  return Number(readFileSync('/proc/loadavg', 'latin1').split(' ')[0]);
}
