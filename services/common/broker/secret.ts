/**
 * The secret of an external lab: who holds it may become a component, nobody else.
 *
 * Everything that must be the same after a restart of the broker (gates, object numbers, ned's task id) is
 * derived from it: HMAC-SHA-256 over a purpose, e.g. `gate:channel 3`. So a broker that runs its script
 * again serves the very gates that running components hold.
 */
import { createHash, createHmac } from 'node:crypto';
import { type Capability, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';

/** Shorter ones can be guessed. */
const MIN_CHARS = 16;
const GATE_DIGITS = 32;

/** Id of the broker's gate: public, so that components find it; its secret is not. */
export const BROKER_GATE = createHash('sha256').update('l4lab broker').digest('hex').slice(0, GATE_DIGITS);

export class LabSecret {
  readonly #key: string;

  /** Any text of at least 16 characters; white space around it does not count. Throws L4Error EINVAL. */
  constructor(text: string) {
    this.#key = text.trim();
    if (this.#key.length < MIN_CHARS) {
      throw new L4Error(
        'EINVAL',
        `Cannot use the lab's secret as it must have at least ${MIN_CHARS} characters: it has ${this.#key.length}; make one with: openssl rand -hex 32`,
      );
    }
  }

  /** The server end of the broker's own gate. */
  get broker(): ServerEnd {
    return { gate: BROKER_GATE, secret: this.#derive('secret:broker') };
  }

  /** What a component calls the broker with. */
  get brokerCapability(): Capability {
    return rootCapability(this.broker);
  }

  /** A gate of the lab, the same one for the same purpose. */
  gate(purpose: string): ServerEnd {
    return { gate: this.name(`gate:${purpose}`), secret: this.#derive(`secret:${purpose}`) };
  }

  /** A name like those of `randomName`, e.g. a task's id. */
  name(purpose: string): string {
    return this.#derive(purpose).toString('hex').slice(0, GATE_DIGITS);
  }

  /** Number of an object of a gate; never 0. */
  object(purpose: string): number {
    return this.#derive(`object:${purpose}`).readUInt32LE() || 1;
  }

  /** The text again, for handing it on to ned. */
  get text(): string {
    return this.#key;
  }

  #derive(purpose: string): Buffer {
    return createHmac('sha256', this.#key).update(purpose).digest();
  }
}
