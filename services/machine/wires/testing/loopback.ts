/**
 * Addresses of this host for tests that must name a port to listen at: asking for any free port does not help, as by the
 * time that it is used somebody else may have it.
 */
import { randomInt } from 'node:crypto';

/** No service's, and none that Linux gives to who asks for any; the ones behind it as well. */
export const FREE_PORT = 17_007;

/** A loopback address that nobody else uses. */
export function ownLoopback(): string {
  const part = (): number => randomInt(1, 255);
  return `127.${part()}.${part()}.${part()}`;
}
