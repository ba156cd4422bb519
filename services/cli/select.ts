/** Which of the running labs a command means. */
import { UsageError } from './problem.ts';
import { type LabRecord, labIn, runningLabs } from './registry.ts';

/** The lab of that id or in that directory, or the only one. Throws UsageError with the choices. */
export function selectLab(id: string | undefined): LabRecord {
  if (id?.includes('/')) {
    const there = labIn(id);
    if (there) return there;
    throw new UsageError(`Cannot select a lab as none is running in ${id}`);
  }
  const labs = runningLabs();
  const [first] = labs;
  if (!first) throw new UsageError('Cannot find a lab as none is running: start one with l4lab run SCRIPT');
  if (id === undefined && labs.length === 1) return first;
  const found = labs.find((lab) => lab.id === id);
  if (found) return found;
  const choices = labs.map((lab) => `${lab.id} (${lab.command.join(' ')})`).join(', ');
  const problem =
    id === undefined ? `${labs.length} labs are running: name one with --lab ID` : `no lab has the id ${id}`;
  throw new UsageError(`Cannot select a lab as ${problem}. Running: ${choices}`);
}
