/** `l4lab stats`: what goes through the switches of a running lab. Asks them only while somebody looks. */
import { setTimeout as sleep } from 'node:timers/promises';
import { toL4Error } from '#common/ipc/errors';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { endSignal } from './interruption.ts';
import { UsageError } from './problem.ts';
import { type LabRecord, runningLabs } from './registry.ts';
import { selectLab } from './select.ts';
import { formatSwitches } from './stats_table.ts';
import { problemView, type SwitchView, switchView } from './stats_view.ts';
import { ANSWER, newIpc, type SwitchClient, switchesOf } from './switches.ts';

export interface StatsOptions {
  readonly watch?: boolean;
  readonly json?: boolean;
  readonly lab?: string;
  /** Seconds. */
  readonly interval?: string;
}

const EXIT_UNANSWERED = 2;
const CLEAR = '\u001b[H\u001b[J';

/** Readings of all switches by name. */
type Readings = Map<string, m.SwitchStats | UsageError>;

/** Prints once, or with --watch until it is interrupted or the lab ends. Returns the exit status. */
export async function stats(wanted: string | undefined, options: StatsOptions): Promise<number> {
  const intervalMs = intervalOf(options);
  const lab = selectLab(options.lab);
  const ipc = newIpc(lab);
  const look = (): Promise<Readings> => readAll(switchesOf(ipc, lab, wanted));
  try {
    const first = await look();
    if (options.watch) return await watch(lab, first, look, intervalMs, options);
    if (intervalMs === 0 || [...first.values()].some((reading) => reading instanceof UsageError))
      return print(lab, viewsOf(first, new Map()), options);
    await sleep(intervalMs);
    return print(lab, viewsOf(await look(), first), options);
  } finally {
    ipc.close();
  }
}

async function watch(
  lab: LabRecord,
  first: Readings,
  look: () => Promise<Readings>,
  intervalMs: number,
  options: StatsOptions,
): Promise<number> {
  const signal = endSignal();
  const redraws = !options.json && process.stdout.isTTY === true;
  let before = first;
  let views = viewsOf(first, new Map());
  for (;;) {
    show(lab, views, options, redraws);
    await sleep(intervalMs, undefined, { signal }).catch(() => {});
    if (signal.aborted) return 0;
    try {
      const now = await look();
      views = viewsOf(now, before);
      before = now;
    } catch (err) {
      if (!runningLabs().some(({ id }) => id === lab.id)) {
        console.error(`l4lab: lab ${lab.id} has ended`);
        return 0;
      }
      // The switch is being started again.
      views = [problemView('?', toL4Error(err).message)];
    }
  }
}

async function readAll(switches: readonly SwitchClient[]): Promise<Readings> {
  const read = async (one: SwitchClient): Promise<[string, m.SwitchStats | UsageError]> => {
    try {
      return [one.name, await one.ask((control) => control.stats({}, ANSWER))];
    } catch (err) {
      return [one.name, err instanceof UsageError ? err : new UsageError(toL4Error(err).message)];
    }
  };
  return new Map(await Promise.all(switches.map(read)));
}

function viewsOf(now: Readings, before: Readings): SwitchView[] {
  return [...now].map(([name, reading]) => {
    if (reading instanceof UsageError) return problemView(name, reading.message);
    const earlier = before.get(name);
    return switchView(name, reading, earlier instanceof UsageError ? undefined : earlier);
  });
}

/** Of switches that did not answer it is said on stderr why. */
function print(lab: LabRecord, views: readonly SwitchView[], options: StatsOptions): number {
  const problems = views.flatMap(({ problem }) => (problem === null ? [] : [problem]));
  const good = views.filter(({ problem }) => problem === null);
  if (options.json) show(lab, views, options, false);
  else if (good.length > 0) show(lab, good, options, false);
  for (const problem of problems) console.error(`l4lab: ${problem}`);
  return problems.length > 0 ? EXIT_UNANSWERED : 0;
}

function show(
  lab: LabRecord,
  switches: readonly SwitchView[],
  { json, watch: watching }: StatsOptions,
  redraws: boolean,
): void {
  if (json) {
    const object = { lab: lab.id, time: Date.now(), switches };
    console.log(watching ? JSON.stringify(object) : JSON.stringify(object, null, 2));
    return;
  }
  const text = formatSwitches(lab, switches);
  if (!redraws) {
    console.log(watching ? `${text}\n` : text);
    return;
  }
  // A line that is longer than the terminal would push the others around.
  const lines = text.split('\n').map((line) => line.slice(0, process.stdout.columns || 80));
  process.stdout.write(`${CLEAR}${lines.slice(0, (process.stdout.rows || 25) - 1).join('\n')}\n`);
}

function intervalOf({ interval = '1', watch: watching }: StatsOptions): number {
  const seconds = Number(interval);
  const least = watching ? 0.1 : 0;
  if (interval.trim() !== '' && seconds >= least && seconds <= 3600) return seconds * 1000;
  throw new UsageError(
    `Cannot use --interval as it must be ${least}..3600 seconds${watching ? ' with --watch' : ' (0: no rates)'}: current value is '${interval}'`,
  );
}
