/**
 * Sparse capabilities: possession of the numbers is the right to use them.
 *
 * A gate has a 32-byte secret that only its server end holds. A client end names an object and carries
 * a chain of HMACs: the first over gate and object, one more for every narrowing of rights. Anybody can
 * lengthen the chain (narrow), nobody without the secret can shorten it (raise rights) or start one for
 * another object. The server recomputes the chain and needs no table of clients.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { isRandomName, randomName } from '#common/shm/run_dir';

/** Rights as in L4.Rights: w 1, s 2, r 4, d 8. */
export const RIGHT_W = 1;
export const RIGHT_S = 2;
export const RIGHT_R = 4;
export const RIGHT_D = 8;
export const RIGHTS_ALL = 0xf;

const PROOF_BYTES = 16;

/** Message Capability of ipc.proto. */
export interface Capability {
  gate: string;
  object: number;
  masks: number[];
  proof: Uint8Array;
}

/** Message ServerEnd of ipc.proto. */
export interface ServerEnd {
  gate: string;
  secret: Uint8Array;
}

/** A new gate; whoever gets the result is its server. */
export function createGate(): ServerEnd {
  return { gate: randomName(), secret: randomBytes(32) };
}

/** The full capability for one object of a gate; 0 is what the server registers for the gate itself. */
export function mint(end: ServerEnd, object: number): Capability {
  const proof = createHmac('sha256', end.secret)
    .update(`${end.gate}:${object}`)
    .digest()
    .subarray(0, PROOF_BYTES);
  return { gate: end.gate, object, masks: [], proof };
}

/** The client end of a gate (`new_channel()`), with all rights. */
export function rootCapability(end: ServerEnd): Capability {
  return mint(end, 0);
}

function step(proof: Uint8Array, mask: number): Uint8Array {
  return createHmac('sha256', proof).update(`rights:${mask}`).digest().subarray(0, PROOF_BYTES);
}

/** The same object with at most the rights in `mask`. The original stays as it is. */
export function narrow(cap: Capability, mask: number): Capability {
  if (rightsOf(cap) === (rightsOf(cap) & mask)) return cap;
  return { gate: cap.gate, object: cap.object, masks: [...cap.masks, mask], proof: step(cap.proof, mask) };
}

/** What the masks leave of all rights. The server may have given the object fewer to begin with. */
export function rightsOf(cap: { masks: readonly number[] }): number {
  return cap.masks.reduce((rights, mask) => rights & mask, RIGHTS_ALL);
}

/** Bounds the work that a forged chain can cause. */
const MAX_MASKS = 8;

/** True when the chain starts at this gate's secret. Constant-time in the proof. */
export function verify(end: ServerEnd, cap: Omit<Capability, 'gate'>): boolean {
  if (cap.masks.length > MAX_MASKS || cap.proof.length !== PROOF_BYTES) return false;
  const proof = cap.masks.reduce(step, mint(end, cap.object).proof);
  return timingSafeEqual(proof, cap.proof);
}

/** True when a decoded message has the form of a capability (its proof is the server's business). */
export function isCapability(
  cap: { gate?: string | null; proof?: Uint8Array | null } | null | undefined,
): cap is Capability {
  return isRandomName(cap?.gate ?? '') && cap?.proof?.length === PROOF_BYTES;
}

/** Short name for messages: the first 8 digits of the gate, and the object if it is not the gate itself. */
export function describe(cap: { gate: string; object: number }): string {
  return cap.object === 0 ? cap.gate.slice(0, 8) : `${cap.gate.slice(0, 8)}/${cap.object.toString(16)}`;
}
