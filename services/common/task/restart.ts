/** Restart policies: whether a task is started again when it has ended by itself. */

export const RESTART_POLICIES = ['no', 'on-failure', 'always'] as const;
/**
 * `no`: its end is its end. `on-failure`: again unless its status is 0. `always`: again whatever its status is.
 * A task that was killed by the script, by its parent or with its lab has not ended by itself.
 */
export type RestartPolicy = (typeof RESTART_POLICIES)[number];

/** Undefined for a text that is no policy. */
export function restartPolicy(text: string): RestartPolicy | undefined {
  return RESTART_POLICIES.find((policy) => policy === text);
}
