/** Lets a switch work until it sleeps. */
import type { Scheduler } from '#common/vnet/scheduler';

/** Throws when the switch does not come to rest within `turns`. */
export function rest(scheduler: Scheduler, turns: number): void {
  let left = turns;
  do {
    while (scheduler.poll()) if (--left < 0) throw new Error('the switch does not come to rest');
  } while (scheduler.arm() && --left >= 0);
  if (left < 0) throw new Error('the switch does not go to sleep');
}
