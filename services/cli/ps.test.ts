import { describe, expect, it } from 'vitest';
import { formatViews, type TaskView } from './ps.ts';

const TASK: TaskView = {
  name: 'io',
  state: 'running',
  exitCode: 0,
  killed: false,
  pid: 0,
  host: '',
  argv: ['rom/io'],
  started: 0,
  ended: 0,
  restart: '',
  restarts: 0,
  lastEnd: '',
  capabilities: [],
};

/** The STATE column of such a task. */
function state(task: Partial<TaskView>): string {
  const lab = { id: '1', command: ['x.cfg'], pid: 1, started: 0, tasks: [{ ...TASK, ...task }], nics: [] };
  return / {2}io +(.*?) +- /.exec(formatViews([lab]))?.[1] ?? '';
}

describe('formatViews()', () => {
  it.each([
    [{}, 'running'],
    [{ restarts: 1, lastEnd: 'was ended by SIGKILL' }, 'running (1 restart)'],
    [{ restarts: 2, state: 'zombie', exitCode: 3 }, 'exit 3 (2 restarts)'],
    [{ state: 'zombie', killed: true }, 'killed'],
    [{ state: 'initializing' }, 'initializing'],
    [{ state: 'initializing', lastEnd: 'was ended by SIGKILL' }, 'restarting (was ended by SIGKILL)'],
  ])('shows %j as its state', (task, text) => {
    expect(state(task)).toBe(text);
  });
});
