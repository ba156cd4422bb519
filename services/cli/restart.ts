/** The option `--restart TASK[=POLICY]`. */
import { RESTART_POLICIES, type RestartPolicy, restartPolicy } from '#common/task/restart';
import { UsageError } from './problem.ts';

/** A server is not meant to end: for it this is the same as `always`. */
const DEFAULT: RestartPolicy = 'on-failure';

/** Policies by names of tasks; the last word on a task counts. Throws UsageError. */
export function restartChoices(values: readonly string[] = []): Readonly<Record<string, RestartPolicy>> {
  return Object.fromEntries(values.map(choice));
}

function choice(value: string): [string, RestartPolicy] {
  const equals = value.lastIndexOf('=');
  const task = equals < 0 ? value : value.slice(0, equals);
  if (task === '') {
    throw new UsageError(
      `Cannot use --restart ${value} as it needs the name of a task, e.g. --restart l4vio_switch`,
    );
  }
  const text = equals < 0 ? DEFAULT : value.slice(equals + 1);
  const policy = restartPolicy(text);
  if (policy) return [task, policy];
  throw new UsageError(
    `Cannot use --restart ${value} as a policy is one of ${RESTART_POLICIES.join(', ')}: current value is '${text}'`,
  );
}
