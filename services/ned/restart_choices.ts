/**
 * Restart policies that the command line gives (`l4lab run --restart TASK[=POLICY]`), in the variable L4LAB_RESTART of
 * ned's launch record: a JSON object with policies by names of tasks. They win over what the script says.
 */
import { type RestartPolicy, restartPolicy } from '#common/task/restart';

export class RestartChoices {
  readonly #given: ReadonlyMap<string, RestartPolicy>;
  readonly #used = new Set<string>();

  constructor(json: string | undefined) {
    const given = Object.entries(JSON.parse(json ?? '{}') as Record<string, string>);
    this.#given = new Map(given.map(([name, text]) => [name, restartPolicy(text) ?? 'no']));
  }

  /** The policy of a task that the script starts; `said` is the script's own, empty for none. */
  of(name: string, said: string): RestartPolicy | undefined {
    this.#used.add(name);
    return this.#given.get(name) ?? restartPolicy(said);
  }

  /** Names on the command line that the script has started no task of. */
  get unused(): string[] {
    return [...this.#given.keys()].filter((name) => !this.#used.has(name));
  }
}
