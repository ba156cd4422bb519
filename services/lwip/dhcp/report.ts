/** What to tell a user who waits for DHCP: what was sent, what came back, what to look at. */
import type { DhcpProgress } from './machine.ts';

/** One line; `seconds` since the start. */
export function waitingLine(name: string, seconds: number, progress: DhcpProgress): string {
  return `Interface '${name}' has no DHCP lease after ${Math.round(seconds)} s: ${sent(progress)}, ${received(progress)}. ${hint(progress)}`;
}

/** The sentence when the time is up. */
export function givenUpLine(name: string, seconds: number, progress: DhcpProgress): string {
  return (
    `Cannot configure interface "${name}" as no DHCP server gave a lease within ${seconds} s: ` +
    `${sent(progress)}, ${received(progress)}. ${hint(progress)} ` +
    `A static address needs no server (IFCONFIG_IP4_${name}="10.0.2.15/24 via 10.0.2.2"); IFCONFIG_DHCP_TIMEOUT sets the limit in seconds, 0 = none.`
  );
}

function sent({ discoversSent, requestsSent }: DhcpProgress): string {
  const discovers = `${discoversSent} DISCOVER${discoversSent === 1 ? '' : 's'}`;
  return requestsSent === 0
    ? `${discovers} sent`
    : `${discovers} and ${requestsSent} REQUEST${requestsSent === 1 ? '' : 's'} sent`;
}

function received({ ignored, requestsSent }: DhcpProgress): string {
  if (ignored.length > 0) return `what came back was not usable: ${[...new Set(ignored)].join('; ')}`;
  return requestsSent > 0 ? 'the server offered an address but did not confirm it' : 'nothing came back';
}

function hint({ ignored, requestsSent, declined }: DhcpProgress): string {
  if (declined > 0)
    return 'Two hosts have the same address: look for a static one inside the range of the DHCP server.';
  if (ignored.length > 0 || requestsSent > 0) return 'Check the DHCP server.';
  return 'Is a DHCP server on this network, is the switch port connected to a NIC, and is the link up?';
}
