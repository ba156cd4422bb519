/**
 * Every lab below deploy/labs that has an expected.txt: the command in its README prints what the file says.
 *
 * Tasks run side by side, so the lines of each are compared in order, but not how they are interleaved, even if they
 * share a tag.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatLog, type LogRecord } from '#common/obs/log_record';
import { linesOf, ROOT, type Run, TestBed } from './harness.ts';

const LABS = join(ROOT, 'deploy/labs');
const labs = readdirSync(LABS).filter((name) => existsSync(join(LABS, name, 'expected.txt')));

let bed: TestBed;
beforeEach(() => {
  bed = new TestBed();
});
afterEach(async () => {
  await bed.close();
});

/** The words of the first `./l4lab` command in a lab's README, and the file for its standard input. */
function command(lab: string): { args: string[]; input: string | undefined } {
  const readme = readFileSync(join(LABS, lab, 'README.md'), 'utf8');
  const line = /^ {4}\.\/l4lab (.*)$/m.exec(readme)?.[1];
  if (line === undefined) throw new Error(`${lab}/README.md has no line "    ./l4lab ..."`);
  const [words = '', input] = line.split(' < ');
  return { args: words.split(' '), input: input && readFileSync(join(ROOT, input), 'utf8') };
}

/** The lines of each task, as they are printed without --json. */
function linesByTask(json: string): string[][] {
  const records = json
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as LogRecord);
  const lines = new Map<string, string[]>();
  for (const record of records.filter(({ event }) => !event)) {
    lines.set(record.task, [...(lines.get(record.task) ?? []), ...linesOf(formatLog(record, false))]);
  }
  return [...lines.values()];
}

/** True when these lines are there in this order, whatever is between them. */
function isPartOf(all: readonly string[], lines: readonly string[]): boolean {
  let from = 0;
  return lines.every((line) => {
    from = all.indexOf(line, from) + 1;
    return from > 0;
  });
}

async function runLab(lab: string, options: string[], env: Record<string, string> = {}): Promise<Run> {
  const { args, input } = command(lab);
  const run = bed.l4lab([...args, ...options], { cwd: ROOT, env, ...(input === undefined ? {} : { input }) });
  expect(await run.exit, run.stderr).toBe(0);
  return run;
}

describe('labs', () => {
  it.each(labs)('%s prints its expected.txt and leaves nothing behind', async (lab) => {
    const run = await runLab(lab, ['--json']);
    const expected = linesOf(readFileSync(join(LABS, lab, 'expected.txt'), 'utf8'));
    const tasks = linesByTask(run.text);
    expect(tasks.flat().sort()).toEqual(expected.toSorted());
    for (const lines of tasks) expect(isPartOf(expected, lines), lines.join('\n')).toBe(true);
    expect(run.stderr).toBe('');
    expect(bed.processes()).toEqual([]);
    expect(bed.files()).toEqual([]);
  });

  it('script prints the tags in their colours', async () => {
    const { text } = await runLab('script', [], { FORCE_COLOR: '1' });
    const colorOf = (tag: string) => new RegExp(`\\x1b\\[([0-9;]+)m${tag.padEnd(8)}\\|`).exec(text)?.[1];
    const tags = ['ned', 'greeter', 'words', 'tree', 'first', 'second', 'adder'];
    expect(tags.map(colorOf)).toEqual(['37', '32', '33', '36', '35', '01;35', '01;34']);
  });
});
