/** How commands call a running lab: the capabilities that its record publishes. */
import { type Capability, rootCapability, type ServerEnd } from '#common/ipc/capability';

/** The longest deadline that a timer can have: the call has no limit of its own. */
export const NO_LIMIT_MS = 2 ** 31 - 1;

/** A capability in `run.json`; the proof in hex. */
export interface PublishedGate {
  readonly gate: string;
  readonly proof: string;
}

export function publishGate(end: ServerEnd): PublishedGate {
  const { gate, proof } = rootCapability(end);
  return { gate, proof: Buffer.from(proof).toString('hex') };
}

export function capabilityOf({ gate, proof }: PublishedGate): Capability {
  return { gate, object: 0, masks: [], proof: Buffer.from(proof, 'hex') };
}
